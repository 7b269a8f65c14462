// The line above an executed copy: how its run stands, and the way to stop it.
import { useState } from 'react';
import { asProblem, IPipelineRunDetail, IStep, Problem } from '../api';
import { span } from './jobview';
import { useSuccessor } from './places';
import { ProblemLines } from './problem';

export interface ICopyHeaderProps {
  run: IPipelineRunDetail | null;
  step: IStep | null;
  problem: Problem | null;
  steps(): void;
  stop(): Promise<unknown>;
}

const SIGNS: Record<string, string> = { running: '●', done: '✓', cached: '✓', failed: '✗', cancelled: '■' };

export function CopyHeader(props: ICopyHeaderProps): JSX.Element {
  const { run, step } = props;
  const [failed, setFailed] = useState<Problem | null>(null);
  const problem = failed ?? props.problem;
  if (!run) {
    return <div className="aip-copy-line">{problem ? <ProblemLines problem={problem} /> : 'Looking for its run…'}</div>;
  }
  const state = step?.state ?? run.state;
  const running = run.state === 'running' || run.state === 'queued';
  const share = step?.cell && step.cells ? (step.cell - 1) / step.cells : undefined;
  const cell = running && step?.cell && step.cells ? `cell ${step.cell} of ${step.cells}` : '';
  const seconds = step?.seconds ?? run.seconds;
  return (
    <>
      <div className="aip-copy-line">
        <span className={`aip-state aip-state-${state}`} role="status">
          <span aria-hidden="true">{SIGNS[state] ?? '○'} </span>
          {state}
        </span>
        {running && <progress value={share} max={1} aria-label="Progress of the run" />}
        <span className="aip-copy-text">
          {[cell, seconds === null ? '' : span(seconds), running ? step?.line : step?.reason]
            .filter(Boolean)
            .join(' · ')}
        </span>
        <span className="aip-buttons">
          {running && <Stop stop={props.stop} failed={setFailed} />}
          <button type="button" className="aip-button" onClick={props.steps}>
            Steps
          </button>
        </span>
      </div>
      {problem && <ProblemLines problem={problem} />}
    </>
  );
}

function Stop(props: { stop(): Promise<unknown>; failed(problem: Problem): void }): JSX.Element {
  const [asked, setAsked] = useState(false);
  const button = useSuccessor();
  return (
    <button
      ref={button}
      type="button"
      className="aip-button aip-stop"
      disabled={asked}
      onClick={() => {
        setAsked(true);
        props.stop().catch(caught => {
          setAsked(false);
          props.failed(asProblem(caught));
        });
      }}
    >
      <span aria-hidden="true">■ </span>
      {asked ? 'Stopping…' : 'Stop'}
    </button>
  );
}
