// A job as it is drawn: what it is, how far it is, what it prints, and at the end its result.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from 'react';
import { asProblem, Events, IAiplat, IJob, IPipelineRun, Problem } from '../api';
import { AGAIN, Asker } from '../panel/asker';
import { fetchCopy } from './copies';
import { useSuccessor } from './places';
import { ProblemLines } from './problem';

/** A job as the server tells it, with what only this tab looks at. */
type Job = IJob & { stopping?: boolean };

/** What the tab of a job is told by whoever opened it. */
export interface IJobProps {
  aiplat: IAiplat;
  id: string;
  /** Back to the form with what was filled in; missing when the job was not started from a form here. */
  again?: () => void;
  /** Told once, when the run of a pipeline that the job drives has a copy to look at. */
  copied?: (run: string, step: string, name: string) => void;
  /** Told when the job is known: the tab takes its name. */
  named(job: IJob): void;
  /** Open an executed copy that somebody asks for. */
  openCopy(run: string, step: string, name: string): void;
}

const STATES: Record<string, string> = {
  running: 'running',
  done: 'done',
  refused: 'refused',
  failed: 'failed',
  stopped: 'stopped'
};
/** A sign for each state, so that colour is not the only one that tells. */
export const SIGNS: Record<string, string> = { running: '●', done: '✓', refused: '⊘', failed: '✗', stopped: '■' };

/** Milliseconds since 1970; the server tells ISO text, or seconds. */
export function moment(told: string | number | null | undefined): number | null {
  const value = typeof told === 'number' ? told * 1000 : told ? Date.parse(told) : NaN;
  return Number.isNaN(value) ? null : value;
}

/** A span as people say it: 8 s, 2 min 5 s, 1 h 3 min. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return `${whole} s`;
  }
  return whole < 3600
    ? `${Math.floor(whole / 60)} min ${whole % 60} s`
    : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** The job, asked for once and followed by the stream until it has ended. */
function useJob(aiplat: IAiplat, id: string) {
  const [job, setJob] = useState<Job | null>(null);
  const [html, setHtml] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const { api, events } = aiplat;
  const ask = useCallback(async () => {
    try {
      const found = await api.job(id);
      if (found.state !== 'running') {
        setHtml(found.view ? (await api.view('job', id)).html : '');
      }
      // a job that was stopped has no result that names its run of a pipeline: it is still what was named before
      setJob(before => ({ ...found, made: { ...before?.made, ...found.made } }));
      setProblem(null);
    } catch (caught) {
      setProblem(asProblem(caught));
      return AGAIN;
    }
    return undefined;
  }, [api, id]);
  const pipeline = job === null || /^(pipeline|backfill)/.test(job.verb);
  const over = job !== null && job.state !== 'running' && html !== null;
  useEffect(() => {
    if (over) {
      return; // a job that has ended never changes again
    }
    const asker = new Asker(ask);
    const follow = (_: Events, told: IJob) => void (told.id === id && asker.wish()); // the event itself is the short form
    const driven = () => asker.wish(); // it may be the one that this job drives: then the job names it
    const again = (_: Events, topic: string) => void (topic === 'jobs' && asker.wish());
    const state = () =>
      void (events.state === 'open' ? asker.wish() : events.state === 'away' && setProblem(events.problem));
    events.job.connect(follow);
    if (pipeline) {
      events.pipelineRun.connect(driven);
    }
    events.changed.connect(again);
    events.stateChanged.connect(state);
    const listening = events.listen();
    asker.wish();
    return () => {
      events.job.disconnect(follow);
      events.pipelineRun.disconnect(driven);
      events.changed.disconnect(again);
      events.stateChanged.disconnect(state);
      listening.dispose();
      asker.dispose();
    };
  }, [over, pipeline, id, ask, events]);
  return { job, html, problem, setProblem };
}

/** The run of a pipeline that a job drives, as the stream tells it. */
function usePipelineRun(aiplat: IAiplat, run: string | undefined, running: boolean): IPipelineRun | null {
  const [found, setFound] = useState<IPipelineRun | null>(null);
  useEffect(() => {
    if (!run) {
      return;
    }
    let newer = false;
    const follow = (_: Events, told: IPipelineRun) => {
      if (told.id === run) {
        newer = true;
        setFound(told);
      }
    };
    aiplat.events.pipelineRun.connect(follow);
    const listening = aiplat.events.listen();
    aiplat.api.pipelineRun(run).then(
      before => newer || setFound(before), // what was told while the server answered is newer
      () => undefined // not written yet: the stream tells it
    );
    return () => {
      aiplat.events.pipelineRun.disconnect(follow);
      listening.dispose();
    };
  }, [aiplat, run, running]);
  return found;
}

/** What is done of how much, in words and as a share; null when nobody can say. */
export function howFar(job: IJob, run: IPipelineRun | null): { share: number | null; text: string } | null {
  if (run && run.total > 0) {
    const within = run.cell && run.cells ? (run.cell - 1) / run.cells : 0;
    const step = run.total > 1 ? `step ${Math.min(run.done + 1, run.total)} of ${run.total}` : '';
    const cell = run.cell && run.cells ? `cell ${run.cell} of ${run.cells}` : '';
    const text = [step, cell, run.line ?? ''].filter(Boolean).join(' · ');
    return { share: Math.min(1, (run.done + within) / run.total), text: text || `${run.done} of ${run.total} steps` };
  }
  const told = job.progress;
  if (told) {
    const share = told.total > 0 ? Math.min(1, told.done / told.total) : null;
    return { share, text: told.text || `${told.done} of ${told.total}` };
  }
  return null;
}

function Elapsed(props: { job: IJob }): JSX.Element | null {
  const { job } = props;
  const [now, setNow] = useState(Date.now());
  const running = job.state === 'running';
  useEffect(() => {
    if (running) {
      const timer = window.setInterval(() => setNow(Date.now()), 1000);
      return () => window.clearInterval(timer);
    }
    return undefined;
  }, [running]);
  const [from, to] = [moment(job.started), moment(job.ended)];
  if (from === null) {
    return null;
  }
  const seconds = ((to ?? now) - from) / 1000;
  return (
    <span className="aip-elapsed">
      {running ? 'for' : 'after'} {span(seconds)}
    </span>
  );
}

function Progress(props: { far: { share: number | null; text: string } }): JSX.Element {
  const { share, text } = props.far;
  return (
    <div className="aip-progress">
      <progress value={share ?? undefined} max={1} aria-label="Progress" />
      <span>{text}</span>
    </div>
  );
}

/** The last lines that the job printed; it stays at the end unless somebody scrolled up. */
export function Log(props: { lines: string[] }): JSX.Element {
  const element = useRef<HTMLPreElement>(null);
  const following = useRef(true);
  useLayoutEffect(() => {
    if (following.current && element.current) {
      element.current.scrollTop = element.current.scrollHeight;
    }
  }, [props.lines]);
  return (
    <pre
      className="aip-log"
      ref={element}
      tabIndex={0}
      role="log"
      aria-live="off"
      aria-label="What it prints"
      onScroll={() => {
        const at = element.current;
        following.current = at !== null && at.scrollHeight - at.scrollTop - at.clientHeight < 24;
      }}
    >
      {props.lines.join('\n')}
    </pre>
  );
}

/** Where the things that a job made are opened. */
function Made(props: IJobProps & { job: IJob }): JSX.Element | null {
  const { aiplat, job } = props;
  const made = job.made ?? {};
  const button = (key: string, label: string, act: () => void) => (
    <button type="button" key={key} className="aip-button" onClick={act}>
      {label}
    </button>
  );
  const buttons = [
    made.run && button('run', 'Open run', () => aiplat.open('run', made.run!)),
    made.model && button('model', `Open ${made.model}`, () => aiplat.open('version', made.model!)),
    made.pipeline_run && button('steps', 'Open steps', () => aiplat.open('pipeline-run', made.pipeline_run!)),
    made.pipeline_run && <Copies key="copies" {...props} run={made.pipeline_run} />,
    props.again && job.state !== 'running' && button('again', 'Change and run again', props.again)
  ].filter(Boolean);
  return buttons.length > 0 ? <>{buttons}</> : null;
}

/** A button for the executed copy, when the run has one step; tells the opener as soon as there is a copy. */
function Copies(props: IJobProps & { job: IJob; run: string }): JSX.Element | null {
  const { aiplat, run, copied, openCopy } = props;
  const [only, setOnly] = useState<{ key: string; name: string } | null>(null);
  const told = useRef(false);
  useEffect(() => {
    const look = async () => {
      try {
        const found = await aiplat.api.pipelineRun(run);
        if (found.steps.length !== 1) {
          return undefined;
        }
        const [step] = found.steps;
        if (!step.copy || (step.state === 'running' && !step.cell)) {
          return AGAIN; // it is written when the first cell begins
        }
        await fetchCopy(aiplat, run, step.key); // a step on another machine brings its copy at the end
        if (!stale && !told.current) {
          told.current = true;
          const name = step.copy.split(/[\\/]/).pop() || `${found.pipeline}.ipynb`;
          setOnly({ key: step.key, name });
          copied?.(run, step.key, name);
        }
        return undefined;
      } catch {
        return AGAIN; // not there yet, or the server is away
      }
    };
    let stale = false;
    const asker = new Asker(look, () => !told.current);
    const follow = (_: Events, news: IPipelineRun) => void (news.id === run && asker.wish());
    aiplat.events.pipelineRun.connect(follow);
    asker.wish();
    return () => {
      stale = true;
      asker.dispose();
      aiplat.events.pipelineRun.disconnect(follow);
    };
  }, [aiplat, run, copied, props.job.state]);
  if (!only) {
    return null;
  }
  return (
    <button type="button" className="aip-button" onClick={() => openCopy(run, only.key, only.name)}>
      Open executed copy
    </button>
  );
}

/** Ask the job to end; whoever asks again while it does not, ends it the hard way. */
function StopButton(props: { aiplat: IAiplat; job: Job; failed(problem: Problem): void }): JSX.Element {
  const { aiplat, job, failed } = props;
  const [asked, setAsked] = useState(false);
  const stopping = asked || job.stopping === true;
  const button = useSuccessor();
  return (
    <button
      ref={button}
      type="button"
      className="aip-button aip-stop"
      title="What it has so far is kept"
      onClick={() => {
        setAsked(true);
        aiplat.api.stop(job.id).catch(caught => {
          setAsked(false);
          failed(asProblem(caught));
        });
      }}
    >
      <span aria-hidden="true">■ </span>
      {stopping ? 'Stopping… (again: now)' : 'Stop'}
    </button>
  );
}

/** The tab of a job. */
export function JobView(props: IJobProps): JSX.Element {
  const { aiplat, id, named } = props;
  const { job, html, problem, setProblem } = useJob(aiplat, id);
  const running = job?.state === 'running';
  const run = usePipelineRun(aiplat, job?.made?.pipeline_run, running);
  useEffect(() => {
    if (job) {
      named(job);
    }
  }, [job?.verb, job?.state]);
  if (!job) {
    return (
      <div className="aip-job" role="status">
        {problem ? <ProblemLines problem={problem} /> : 'Looking for the job…'}
      </div>
    );
  }
  const far = running ? (howFar(job, run) ?? { share: null, text: '' }) : null;
  return (
    <div className="aip-job">
      <header>
        <h2>{job.verb}</h2>
        <span className={`aip-state aip-state-${job.state}`} role="status">
          <span aria-hidden="true">{SIGNS[job.state]} </span>
          {STATES[job.state] ?? job.state}
        </span>
        <Elapsed job={job} />
        <span className="aip-buttons">
          {running && <StopButton aiplat={aiplat} job={job} failed={setProblem} />}
          <Made {...props} job={job} />
        </span>
      </header>
      <code className="aip-line" tabIndex={0}>
        {job.line}
      </code>
      {problem && <ProblemLines problem={problem} />}
      {far && <Progress far={far} />}
      {!html && job.problem && <ProblemLines problem={job.problem} />}
      {html && (
        <div
          className="aip-result jp-RenderedHTMLCommon"
          role="region"
          aria-label="Result"
          tabIndex={0}
          dangerouslySetInnerHTML={{ __html: html }}
        />
      )}
      {running && job.lines.length > 0 && <Log lines={job.lines} />}
      {!running && job.lines.length > 0 && (
        <details>
          <summary>What it printed</summary>
          <Log lines={job.lines} />
        </details>
      )}
    </div>
  );
}
