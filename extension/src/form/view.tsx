// The form as it is drawn: groups of fields, the line that does the same, and the buttons.
import { JSONObject } from '@lumino/coreutils';
import { useCallback, useEffect, useId, useMemo, useRef, useState } from 'react';
import { asProblem, Problem } from '../api';
import { Choice, Flag, PairsField, Suggested, Text } from './inputs';
import { Draft, Entry, groupsOf, IField, readAll } from './fields';
import { ProblemLines } from './problem';

/** What a form asks of whoever opened it. */
export interface IFormProps {
  /** The heading. */
  title: string;
  /** The paragraphs under it. */
  about: string[];
  fields: IField[];
  /** One heading over all fields; by default they are grouped by need. */
  heading?: string;
  /** What stands in the fields at first. */
  draft: Draft;
  /** What the button to start says. */
  action: string;
  /** Shown above the fields: why the form cannot be used as it is. */
  problem?: Problem | null;
  /** What a field offers for what was typed so far. */
  choices(field: IField, typed: string, draft: Draft): Promise<string[]>;
  /** The line that does the same; rejects with what is wrong. */
  line(values: JSONObject): Promise<string>;
  run(values: JSONObject, draft: Draft): Promise<void>;
  /** What is done with the line instead of running it. */
  insert: { label: string; act(line: string): Promise<void> };
  /** Told about every change, so that a reload does not lose it. */
  changed(draft: Draft): void;
}

const PAUSE = 300; // milliseconds after the last key before the server is asked for the line

/** The line of the form as it stands, asked of the server a moment after the last change. */
function useLine(values: JSONObject, complete: boolean, ask: IFormProps['line']) {
  const [line, setLine] = useState('');
  const [of, setOf] = useState(''); // the values that the line says: it stands there a moment longer than they do
  const [problem, setProblem] = useState<Problem | null>(null);
  const said = JSON.stringify(values);
  useEffect(() => {
    if (!complete) {
      setLine('');
      setProblem(null);
      return;
    }
    let stale = false;
    const timer = window.setTimeout(() => {
      ask(JSON.parse(said) as JSONObject).then(
        found => {
          if (!stale) {
            setLine(found);
            setOf(said);
            setProblem(null);
          }
        },
        caught => {
          if (!stale) {
            setLine('');
            setProblem(asProblem(caught));
          }
        }
      );
    }, PAUSE);
    return () => {
      stale = true;
      window.clearTimeout(timer);
    };
  }, [said, complete, ask]);
  return { line, current: of === said ? line : '', problem };
}

/** One field with its label, its help and what is wrong with it. */
function Row(props: {
  field: IField;
  entry: Entry | undefined;
  wrong: string | undefined;
  id: string;
  choices(typed: string): Promise<string[]>;
  change(entry: Entry): void;
  leave(): void;
}): JSX.Element {
  const { field, id, wrong } = props;
  const described = [field.help ? `${id}-help` : '', wrong ? `${id}-wrong` : ''].filter(Boolean).join(' ');
  const about = { id, described, invalid: wrong !== undefined };
  const text = typeof props.entry === 'string' ? props.entry : '';
  const plain = { ...about, field, value: text, change: props.change, leave: props.leave };
  const help = field.help && (
    <p className="aip-help" id={`${id}-help`}>
      {field.help}
    </p>
  );
  const trouble = wrong && (
    <p className="aip-wrong" id={`${id}-wrong`}>
      {wrong}
    </p>
  );
  if (field.kind === 'flag') {
    const on = typeof props.entry === 'boolean' ? props.entry : field.fallback === 'true';
    return (
      <div className="aip-row aip-row-flag" data-field={field.name}>
        <Flag {...about} label={field.title} value={on} change={props.change} />
        {help}
      </div>
    );
  }
  return (
    <div className="aip-row" data-field={field.name}>
      <label className="aip-label" htmlFor={id}>
        {field.title}
      </label>
      <div className="aip-input">
        {field.kind === 'pairs' ? (
          <PairsField {...about} value={Array.isArray(props.entry) ? props.entry : []} change={props.change} />
        ) : field.choices.length > 0 && field.many === 'no' ? (
          <Choice {...plain} />
        ) : SUGGESTED.has(field.kind) ? (
          <Suggested {...plain} choices={props.choices} />
        ) : (
          <Text {...plain} />
        )}
        {help}
        {trouble}
      </div>
    </div>
  );
}

/** Kinds for which the server has something to offer: all but what only the person knows. */
const SUGGESTED = new Set(
  'data columns run model alias notebook pipeline pipeline-run schedule incident path'.split(' ')
);

/** The form. */
export function FormView(props: IFormProps): JSX.Element {
  const { fields, changed, line: askLine, choices } = props;
  const [draft, setDraft] = useState<Draft>(props.draft);
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<Problem | null>(null);
  const form = useRef<HTMLFormElement>(null);
  const prefix = useId();
  const groups = useMemo(
    () => (props.heading && fields.length > 0 ? [{ title: props.heading, fields }] : groupsOf(fields)),
    [fields, props.heading]
  );
  const { values, wrong } = useMemo(() => readAll(fields, draft), [fields, draft]);
  const complete = Object.keys(wrong).length === 0 && !props.problem;
  const { line, current, problem } = useLine(values, complete, askLine);
  const shown = failed ?? problem;

  const change = useCallback(
    (name: string, entry: Entry) => {
      setFailed(null);
      setDraft(before => ({ ...before, [name]: entry }));
    },
    [setDraft]
  );
  useEffect(() => changed(draft), [draft, changed]);

  /** Do it when everything is there; else say what is missing, and go there. */
  const act = async (what: () => Promise<void>) => {
    setTried(true);
    const first = fields.find(field => wrong[field.name]);
    if (first) {
      document.getElementById(`${prefix}${first.name}`)?.focus();
      return;
    }
    setBusy(true);
    setFailed(null);
    try {
      await what();
    } catch (caught) {
      setFailed(asProblem(caught));
    } finally {
      setBusy(false);
    }
  };
  const run = () => act(() => props.run(values, draft));
  const insert = () => act(async () => props.insert.act(current || (await askLine(values))));

  return (
    <form
      className="aip-form"
      ref={form}
      noValidate
      autoComplete="off"
      onSubmit={event => {
        event.preventDefault();
        void run();
      }}
    >
      <div className="aip-form-body">
        <h2>{props.title}</h2>
        {props.about.map((paragraph, index) => (
          <p key={index} className="aip-about">
            {paragraph}
          </p>
        ))}
        {props.problem && <ProblemLines problem={props.problem} />}
        {groups.map(group => (
          <fieldset key={group.title}>
            <legend>{group.title}</legend>
            {group.fields.map(field => (
              <Row
                key={field.name}
                field={field}
                id={`${prefix}${field.name}`}
                entry={draft[field.name]}
                wrong={tried || left.has(field.name) ? wrong[field.name] : undefined}
                choices={typed => choices(field, typed, draft)}
                change={entry => change(field.name, entry)}
                leave={() => setLeft(before => new Set(before).add(field.name))}
              />
            ))}
          </fieldset>
        ))}
        {fields.length === 0 && !props.problem && <p className="aip-about">It needs nothing else.</p>}
      </div>
      <div className="aip-form-foot">
        {shown ? (
          <ProblemLines problem={shown} />
        ) : (
          <code className={`aip-line ${line ? '' : 'aip-line-waiting'}`}>
            {line || (complete ? '…' : 'The line that does the same stands here when the form is complete.')}
          </code>
        )}
        <div className="aip-buttons">
          <button type="submit" className="aip-button aip-accept" disabled={busy || Boolean(props.problem)}>
            {busy ? 'Starting…' : props.action}
          </button>
          <button
            type="button"
            className="aip-button"
            disabled={busy || Boolean(props.problem)}
            onClick={() => void insert()}
          >
            {props.insert.label}
          </button>
        </div>
      </div>
    </form>
  );
}
