// The two tabs of this part: a form, and a job that was started.
import { MainAreaWidget } from '@jupyterlab/apputils';
import { ReactWidget } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import { useEffect, useState } from 'react';
import { asProblem, IAiplat, IJob, Problem } from '../api';
import { aiplatIcon } from '../panel/icon';
import { Draft } from './fields';
import { JobView, SIGNS } from './jobview';
import { ProblemLines } from './problem';
import { FormView, IFormProps } from './view';

/** What a form is about; kept with the layout of the window, so that a reload brings it back as it was. */
export interface IFormArgs {
  key?: string;
  /** The verb; `pipeline run` with a notebook asks for the notebook's parameters. */
  verb: string;
  notebook?: string;
  draft?: Draft;
}

/** What a job's tab is about. */
export interface IJobArgs {
  id: string;
  /** The form that started it. */
  form?: IFormArgs;
  /** Whether the executed copy is to be opened beside as soon as there is one. */
  copy?: boolean;
}

/** All of a form but what the tab itself knows. */
export type FormSource = Omit<IFormProps, 'draft' | 'changed' | 'run'> & {
  run: (values: Parameters<IFormProps['run']>[0]) => Promise<IJob>;
};

interface ILoaderProps {
  load(): Promise<FormSource>;
  draft: Draft;
  changed(draft: Draft): void;
  started(job: IJob, draft: Draft): void;
  /** Told when the form is on the page. */
  drawn(): void;
}

/** The form once the server has told what is in it. */
function Loader(props: ILoaderProps): JSX.Element {
  const [source, setSource] = useState<FormSource | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let stale = false;
    props.load().then(
      found => !stale && setSource(found),
      caught => !stale && setProblem(asProblem(caught))
    );
    return () => {
      stale = true;
    };
  }, [turn]);
  useEffect(() => {
    if (source) {
      props.drawn();
    }
  }, [source]);
  if (source) {
    const { run, ...rest } = source;
    const start: IFormProps['run'] = async (values, draft) => props.started(await run(values), draft);
    return <FormView {...rest} draft={props.draft} changed={props.changed} run={start} />;
  }
  if (!problem) {
    return (
      <p className="aip-about aip-lone" role="status">
        Asking the server…
      </p>
    );
  }
  const again = () => {
    setProblem(null);
    setTurn(turn + 1);
  };
  return (
    <div className="aip-lone">
      <ProblemLines problem={problem} />
      <button type="button" className="aip-button" onClick={again}>
        Try again
      </button>
    </div>
  );
}

/** What is the same for both: the place of the keyboard, and arguments that the layout keeps. */
abstract class Content<T> extends ReactWidget {
  constructor(readonly args: T) {
    super();
    this.addClass('aip-root');
    this.addClass('aip-tab');
    this.node.tabIndex = -1;
  }

  /** The arguments are others now, and worth keeping. */
  get argsChanged(): ISignal<this, void> {
    return this._argsChanged;
  }

  protected keep(changed: Partial<T>): void {
    Object.assign(this.args as object, changed);
    this._argsChanged.emit();
  }

  /** The keyboard goes to the first field, or to the tab itself, unless it is inside already. */
  protected onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    if (!this.node.contains(document.activeElement) || document.activeElement === this.node) {
      this.goIn();
    }
  }

  protected goIn(): void {
    const first = this.node.querySelector<HTMLElement>('form input, form select, form button');
    (first ?? this.node).focus();
  }

  private _argsChanged = new Signal<this, void>(this);
}

export class FormContent extends Content<IFormArgs> {
  constructor(
    args: IFormArgs,
    private readonly _load: () => Promise<FormSource>,
    private readonly _started: (job: IJob, args: IFormArgs) => void
  ) {
    super(args);
    this.title.label = args.notebook ? `Run ${args.notebook.split('/').pop()}` : args.verb;
    this.title.icon = aiplatIcon;
    this.title.caption = args.notebook ? `Run ${args.notebook} as a pipeline` : `aiplat ${args.verb}`;
  }

  render(): JSX.Element {
    return (
      <Loader
        load={this._load}
        drawn={this._drawn}
        draft={this.args.draft ?? {}}
        changed={this._changed}
        started={(job, draft) => this._started(job, { ...this.args, draft })}
      />
    );
  }

  /** The tab may have been shown before there was a field to go to; nobody who has gone elsewhere meanwhile is called back. */
  private _drawn = (): void => {
    if (document.activeElement === this.node) {
      this.goIn();
    }
  };

  private _changed = (draft: Draft): void => {
    this.keep({ draft });
  };
}

export class JobContent extends Content<IJobArgs> {
  constructor(
    args: IJobArgs,
    private readonly _aiplat: IAiplat,
    private readonly _ways: {
      again(form: IFormArgs): void;
      openCopy(run: string, step: string, name: string): void;
    }
  ) {
    super(args);
    this.title.label = args.form?.verb ?? 'Job';
    this.title.icon = aiplatIcon;
  }

  render(): JSX.Element {
    const { form } = this.args;
    return (
      <JobView
        aiplat={this._aiplat}
        id={this.args.id}
        named={this._named}
        again={form && (() => this._ways.again(form))}
        copied={this._copied}
        openCopy={this._ways.openCopy}
      />
    );
  }

  private _named = (job: IJob): void => {
    this.title.label = `${SIGNS[job.state] ?? ''} ${job.verb}`.trim();
    this.title.caption = `${job.line}\n${job.state}`;
  };

  private _copied = (run: string, step: string, name: string): void => {
    if (this.args.copy) {
      this.keep({ copy: false });
      this._ways.openCopy(run, step, name);
    }
  };
}

/** A tab of the main area around a content. */
export function tabOf<T extends Widget>(content: T, id: string): MainAreaWidget<T> {
  const tab = new MainAreaWidget<T>({ content });
  tab.id = id;
  tab.toolbar.hide();
  return tab;
}
