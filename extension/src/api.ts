// The REST routes of aiplat (frontends/rest) as typed calls, and the server's one stream of events.
//
// The shapes are those of the OpenAPI file beside the server extension. Everything goes through ServerConnection, so that
// tokens, cookies and the XSRF header are Jupyter's own business.
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { JSONObject, JSONValue, Token } from '@lumino/coreutils';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

/** A moment as the server tells it: seconds since 1970, or ISO 8601 text. */
export type Moment = number | string;

/** What went wrong, as a sentence and what to do about it; `status` is 0 when the server did not answer at all. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly todo: string = '',
    readonly detail: string = ''
  ) {
    super(todo ? `${title}\n${todo}` : title);
    this.name = 'Problem';
  }
}

/** A problem as any caught value can be told to a person. */
export function asProblem(caught: unknown): Problem {
  return caught instanceof Problem
    ? caught
    : new Problem(-1, caught instanceof Error ? caught.message : String(caught));
}

export interface ITold {
  title: string;
  todo: string;
}

export interface IStatus {
  version: string;
  root: string | null;
  user: string;
  roles: string[];
  workspace: boolean;
  problem?: ITold | null;
}

export interface IVerbLine {
  name: string;
  help: string;
  stage: string;
}

export type FieldKind =
  | 'data'
  | 'columns'
  | 'run'
  | 'model'
  | 'alias'
  | 'notebook'
  | 'pipeline'
  | 'schedule'
  | 'path'
  | 'pairs'
  | 'flag'
  | 'text'
  | 'number'
  | 'choice';

export interface IField {
  type?: string | string[];
  title?: string;
  description?: string;
  default?: JSONValue;
  enum?: JSONValue[];
  items?: IField;
  anyOf?: IField[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  pattern?: string;
  'x-kind'?: FieldKind;
  'x-order'?: number;
  'x-positional'?: boolean;
}

export interface ISchema {
  type: 'object';
  properties: Record<string, IField>;
  required?: string[];
}

export interface IVerb extends IVerbLine {
  description: string;
  schema: ISchema;
}

export type JobState = 'running' | 'done' | 'refused' | 'failed' | 'stopped';

export interface IProgress {
  done: number;
  total: number;
  text: string;
}

export interface IMade {
  run?: string;
  model?: string;
  pipeline_run?: string;
  notebook?: string;
}

/** One call of a verb in a process of its own. */
export interface IJob {
  id: string;
  verb: string;
  line: string;
  state: JobState;
  started: Moment | null;
  ended: Moment | null;
  exit_code: number | null;
  lines: string[];
  progress?: IProgress | null;
  result?: JSONValue;
  view?: string | null;
  problem?: ITold | null;
  made?: IMade | null;
}

export interface IGate {
  alias: string;
  /** null: it cannot be told. */
  holds: boolean | null;
  summary: string;
  age_seconds: number | null;
}

export interface IVersion {
  version: number;
  run: string | null;
  aliases: string[];
  gates: IGate[];
  created: Moment | null;
  by: string | null;
}

export interface IModel {
  name: string;
  /** Newest first; perhaps only the first page of them. */
  versions: IVersion[];
  /** Given when there are older versions: what to pass as `before`. */
  next?: number | null;
}

export type EndpointState = 'running' | 'astray' | 'down';

/** A version at an endpoint, with its share of the requests. */
export interface IArm {
  version: number;
  role: string;
  share: number;
  requests: number;
  errors: number;
}

export interface IEndpoint {
  name: string;
  model: string;
  /** astray: its workers follow another plan than the ledger says. */
  state: EndpointState;
  url: string | null;
  workers: number;
  versions: IArm[];
  /** Since the plan is in force; what shadows answered is not counted. */
  requests: number;
  errors: number;
  /** Requests per second, lately; null: not known yet. */
  rate: number | null;
  /** Open alerts. */
  alerts: number;
  since: Moment | null;
  by: string | null;
  reason: string | null;
}

/** down: nobody answers its messages; ended: in good order, and nothing waits. */
export type FlowState = 'running' | 'trouble' | 'down' | 'ended';

export interface IStream {
  name: string;
  state: FlowState;
  /** The versions that answer; of a stream that does not run, that answered last. */
  versions: string[];
  from: string;
  to: string;
  processes: number;
  /** Messages that wait; null: their server has not said. */
  waiting: number | null;
  /** Messages per second. */
  rate: number;
  answered: number;
  /** Messages that could not be answered. */
  buried: number;
  /** Open alerts. */
  alerts: number;
  trouble: string | null;
  heard: Moment | null;
}

/** Who answers people: over HTTP, and the messages of streams. */
export interface IAnswering {
  endpoints: IEndpoint[];
  streams: IStream[];
}

export interface IRun {
  id: string;
  name: string;
  state: string;
  started: Moment | null;
  seconds: number | null;
  metric: string | null;
  value: number | null;
  trials: number | null;
  task: string | null;
  user: string | null;
  /** What made it: `train`, `mitigate` … */
  kind?: string;
  /** Whether it has a model that could be registered. */
  model?: boolean;
}

export interface IRunPage {
  runs: IRun[];
  /** Given when there are older runs: what to pass as `before`. */
  next?: string | null;
}

export interface IPipelineRun {
  id: string;
  pipeline: string;
  state: string;
  started: Moment | null;
  seconds: number | null;
  done: number;
  total: number;
  cause: string | null;
  step?: string | null;
  cell?: number | null;
  cells?: number | null;
  line?: string | null;
  file?: string | null;
  user?: string | null;
  ended?: Moment | null;
  /** Somebody asked to cancel it. */
  stopping?: boolean;
  reason?: string | null;
  /** Where the executed copy is, when there is one step only. */
  copy?: string | null;
}

export interface IStep {
  key: string;
  state: string;
  cell?: number | null;
  cells?: number | null;
  line?: string | null;
  seconds: number | null;
  copy?: string | null;
  reason?: string | null;
}

export interface IPipelineRunDetail extends IPipelineRun {
  steps: IStep[];
}

export interface ISchedule {
  name: string;
  kind: string;
  spec: string;
  paused: boolean;
  next_fire: Moment | null;
  last_state: string | null;
  pipeline?: string;
  /** The specification as a person reads it. */
  words?: string;
  tz?: string;
  last_fire?: Moment | null;
  last_run?: string | null;
}

export interface IPipeline {
  name: string;
  file: string | null;
  last?: IPipelineRun | null;
  next_fire?: Moment | null;
  schedules: ISchedule[];
  /** Whether its last run failed and nothing has mended it since. */
  broken?: boolean;
}

export interface IIncident {
  id: string;
  name: string;
  kind: string;
  what: string;
  when: Moment | null;
  count: number;
  run?: string | null;
  /** When it was over. */
  closed?: Moment | null;
  /** When it happened last. */
  last?: Moment | null;
  step?: string | null;
  /** The cell's number, a colon and the line of it that failed. */
  cell?: string | null;
  /** The first line of the error. */
  error?: string | null;
  /** What to type to go on. */
  command?: string | null;
  /** Closed by hand, or together with another one: nobody is told. */
  quiet?: boolean;
}

export interface IPipelines {
  pipelines: IPipeline[];
  runs: IPipelineRun[];
  incidents: IIncident[];
  scheduler: { alive: boolean };
}

export interface IRay {
  running: boolean;
  /** `running`, `not running`, `died`, `unreachable`. */
  state?: string;
  /** Whether it is this machine's own, which `up` and `down` start and stop. */
  local?: boolean;
  address?: string | null;
  cpus?: number | null;
  cpus_used?: number | null;
  /** Bytes. */
  memory?: number | null;
  memory_used?: number | null;
  nodes?: number | null;
  queued?: number | null;
}

export interface ICluster {
  ray: IRay;
  ui?: string | null;
  scheduler?: JSONValue;
  /** Where the dashboards are served, without the token. */
  dashboard?: string | null;
  machine?: IMachine;
}

export interface IMachine {
  cpus: number;
  /** Processes that want a CPU, over the last minute; null where the system does not say. */
  load: number | null;
  /** Bytes. */
  memory: number;
  free: number;
}

export interface IParameter {
  name: string;
  type: string;
  default: JSONValue;
  help: string;
  choices?: JSONValue[] | null;
  schema: IField;
}

export interface INotebookParameters {
  path: string;
  parameters: IParameter[];
  problem?: ITold | null;
}

export type ViewKind =
  | 'run'
  | 'model'
  | 'version'
  | 'endpoint'
  | 'stream'
  | 'pipeline-run'
  | 'pipeline'
  | 'schedule'
  | 'job'
  | 'cluster'
  | 'gate';

/** How a thing shows itself: HTML made and escaped by core/show, and the line that shows the same in a notebook. */
export interface IView {
  title: string;
  html: string;
  line: string;
}

export type Topic = 'runs' | 'models' | 'endpoints' | 'pipelines' | 'schedules' | 'cluster' | 'jobs' | 'ledger';

export const TOPICS: readonly Topic[] = [
  'runs',
  'models',
  'endpoints',
  'pipelines',
  'schedules',
  'cluster',
  'jobs',
  'ledger'
];

type Query = Record<string, string | number | undefined | null>;

/** Every part of a path in its own right: names of models and files may hold slashes and spaces. */
function path(...parts: string[]): string {
  return parts.map(part => encodeURIComponent(part)).join('/');
}

/** The routes under `aiplat/api` as calls; each rejects with a `Problem`. */
export class Api {
  constructor(readonly settings: ServerConnection.ISettings = ServerConnection.makeSettings()) {}

  /** The address of a route. */
  url(route: string, query: Query = {}): string {
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
    const asked = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
    return URLExt.join(this.settings.baseUrl, 'aiplat/api', route) + (asked ? `?${asked}` : '');
  }

  status(): Promise<IStatus> {
    return this._ask('GET', '/');
  }

  async verbs(): Promise<IVerbLine[]> {
    return (await this._ask<{ verbs: IVerbLine[] }>('GET', 'verbs')).verbs;
  }

  /** A verb with its schema; a verb of two words by its name or with a dash. */
  verb(name: string): Promise<IVerb> {
    return this._ask('GET', `verbs/${verbPath(name)}`);
  }

  /** The `%aiplat` line that does the same, checked as the command line would. */
  async line(verb: string, args: JSONObject): Promise<string> {
    return (await this._ask<{ line: string }>('POST', `verbs/${verbPath(verb)}/line`, {}, { arguments: args })).line;
  }

  /** What could be meant by `q`; columns are those of `data`. */
  async choices(kind: FieldKind, q = '', data = ''): Promise<string[]> {
    return (await this._ask<{ choices: string[] }>('GET', `choices/${path(kind)}`, { q, data })).choices;
  }

  start(verb: string, args: JSONObject = {}): Promise<IJob> {
    return this._ask('POST', 'jobs', {}, { verb, arguments: args });
  }

  async jobs(limit?: number): Promise<IJob[]> {
    return (await this._ask<{ jobs: IJob[] }>('GET', 'jobs', { limit })).jobs;
  }

  job(id: string): Promise<IJob> {
    return this._ask('GET', `jobs/${path(id)}`);
  }

  /** Interrupt a job; killed when it does not end by itself. */
  async stop(id: string): Promise<void> {
    await this._ask('DELETE', `jobs/${path(id)}`);
  }

  async models(query: { name?: string; limit?: number; before?: number | string } = {}): Promise<IModel[]> {
    return (await this._ask<{ models: IModel[] }>('GET', 'models', query)).models;
  }

  endpoints(): Promise<IAnswering> {
    return this._ask('GET', 'endpoints');
  }

  runs(query: { limit?: number; before?: string } = {}): Promise<IRunPage> {
    return this._ask('GET', 'runs', query);
  }

  pipelines(): Promise<IPipelines> {
    return this._ask('GET', 'pipelines');
  }

  pipelineRun(id: string): Promise<IPipelineRunDetail> {
    return this._ask('GET', `pipelines/runs/${path(id)}`);
  }

  /** The parameters of a notebook, by its path below the server's root folder. */
  notebook(at: string): Promise<INotebookParameters> {
    return this._ask('GET', 'notebook', { path: at });
  }

  cluster(): Promise<ICluster> {
    return this._ask('GET', 'cluster');
  }

  view(kind: ViewKind, id: string): Promise<IView> {
    return this._ask('GET', `views/${path(kind, id)}`);
  }

  private async _ask<T>(method: string, route: string, query: Query = {}, body?: JSONObject): Promise<T> {
    const init: RequestInit = { method, headers: { Accept: 'application/json' }, cache: 'no-store' };
    if (body !== undefined) {
      init.headers = { ...init.headers, 'Content-Type': 'application/json' };
      init.body = JSON.stringify(body);
    }
    const answer = await reach(this.url(route, query), init, this.settings);
    const text = await answer.text();
    if (!answer.ok) {
      throw refused(answer, text);
    }
    return (text ? JSON.parse(text) : undefined) as T;
  }
}

function verbPath(name: string): string {
  return path(name.trim().replace(/\s+/g, '-'));
}

async function reach(url: string, init: RequestInit, settings: ServerConnection.ISettings): Promise<Response> {
  try {
    return await ServerConnection.makeRequest(url, init, settings);
  } catch (error) {
    if (init.signal?.aborted) {
      throw error;
    }
    throw new Problem(0, 'The Jupyter server does not answer.', 'This goes on when it is back.');
  }
}

/** The problem details of an answer (RFC 9457), or the best that can be said without. */
function refused(answer: Response, text: string): Problem {
  try {
    const told = JSON.parse(text) as Partial<Record<'title' | 'todo' | 'detail' | 'message', string>>;
    const title = told.title ?? told.message;
    if (title) {
      return new Problem(answer.status, title, told.todo ?? '', told.detail ?? '');
    }
  } catch {
    // not JSON: a proxy's page, or a server without the extension
  }
  if (answer.status === 404) {
    return new Problem(
      404,
      'The Jupyter server runs without aiplat.',
      'Run jupyter server extension enable aiplat.frontends.rest.'
    );
  }
  if (answer.status === 401 || answer.status === 403) {
    return new Problem(answer.status, 'The Jupyter server does not let you in.', 'Log in again: reload the page.');
  }
  return new Problem(
    answer.status,
    `The Jupyter server answered ${answer.status} ${answer.statusText}.`.replace(' .', '.')
  );
}

/** One event of a `text/event-stream`. */
export interface IServerEvent {
  event: string;
  data: string;
}

/** Split a stream of text into events; what is not complete yet stays for the next piece. */
export class EventParser {
  private _rest = '';

  push(piece: string): IServerEvent[] {
    this._rest += piece;
    const blocks = this._rest.split(/\r?\n\r?\n/);
    this._rest = blocks.pop() ?? '';
    const events: IServerEvent[] = [];
    for (const block of blocks) {
      let event = 'message';
      const data: string[] = [];
      for (const line of block.split(/\r?\n/)) {
        const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
        if (field === 'event') {
          event = value;
        } else if (field === 'data') {
          data.push(value);
        }
      }
      if (data.length) {
        events.push({ event, data: data.join('\n') });
      }
    }
    return events;
  }
}

/** idle: nobody listens, or the page is hidden; away: the server does not answer, and is asked again. */
export type StreamState = 'idle' | 'connecting' | 'open' | 'away';

/** What is said when the line breaks or is silent, in whichever words the browser has for it. */
const AWAY = new Problem(0, 'The Jupyter server does not answer.', 'This goes on when it is back.');
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;
/** The server says something every 15 s: after thrice that, the line is dead even if nobody closed it. */
const SILENCE = 45_000;

/**
 * The server's events, over one connection for everything in this page.
 *
 * It is open only while somebody listens and the page can be seen: browsers allow six connections to a server, and ten
 * windows in the background must not take them. Whenever it has been opened, all topics are told as changed, so that a
 * listener that asks again on `changed` misses nothing.
 */
export class Events {
  constructor(
    private readonly _api: Api,
    private readonly _route = 'events'
  ) {
    document.addEventListener('visibilitychange', () => this._adjust());
    window.addEventListener('online', () => this._retry());
  }

  /** Something of a topic is different now. */
  get changed(): ISignal<this, Topic> {
    return this._changed;
  }

  /** How a job stands; its lines may be short: ask `Api.job` for all. */
  get job(): ISignal<this, IJob> {
    return this._job;
  }

  /** How a run of a pipeline stands. */
  get pipelineRun(): ISignal<this, IPipelineRun> {
    return this._pipelineRun;
  }

  get incident(): ISignal<this, IIncident> {
    return this._incident;
  }

  get stateChanged(): ISignal<this, StreamState> {
    return this._stateChanged;
  }

  get state(): StreamState {
    return this._state;
  }

  /** Why the stream is away. */
  get problem(): Problem | null {
    return this._problem;
  }

  /** Keep the stream open until what is returned is disposed of. */
  listen(): IDisposable {
    this._listeners += 1;
    this._adjust();
    return new DisposableDelegate(() => {
      this._listeners -= 1;
      this._adjust();
    });
  }

  /** Whether to listen also while the page cannot be seen: for one page per browser, never for all. */
  set background(wanted: boolean) {
    this._background = wanted;
    this._adjust();
  }

  /** Ask again at once, without waiting out the pause. */
  retry(): void {
    this._wait = FIRST_WAIT;
    this._retry();
  }

  private _adjust(): void {
    const wanted = this._listeners > 0 && (!document.hidden || this._background);
    if (wanted && !this._stop) {
      void this._connect();
    } else if (!wanted && this._stop) {
      this._stop.abort();
      this._stop = null;
      this._set('idle');
    }
  }

  private _retry(): void {
    if (this._state === 'away') {
      this._stop?.abort();
      this._stop = null;
      this._adjust();
    }
  }

  /** Connect, read to the end, pause, again; until aborted. */
  private async _connect(): Promise<void> {
    const stop = new AbortController();
    this._stop = stop;
    this._set('connecting');
    while (!stop.signal.aborted) {
      // a silent line is given up by itself; the next turn of this loop needs another controller for that
      const line = new AbortController();
      const end = () => line.abort();
      stop.signal.addEventListener('abort', end);
      try {
        await this._read(line);
        this._problem = AWAY;
      } catch (error) {
        this._problem = error instanceof Problem ? error : AWAY;
      } finally {
        stop.signal.removeEventListener('abort', end);
      }
      if (!stop.signal.aborted) {
        this._set('away');
        await pause(this._wait * (0.75 + Math.random() / 2), stop.signal);
        this._wait = Math.min(2 * this._wait, LONGEST_WAIT);
      }
    }
  }

  private async _read(line: AbortController): Promise<void> {
    let silence = window.setTimeout(() => line.abort(), SILENCE);
    const alive = () => {
      window.clearTimeout(silence);
      silence = window.setTimeout(() => line.abort(), SILENCE);
    };
    try {
      const init = { headers: { Accept: 'text/event-stream' }, signal: line.signal };
      const answer = await reach(this._api.url(this._route), init, this._api.settings);
      if (!answer.ok || !answer.body) {
        throw refused(answer, await answer.text());
      }
      const parser = new EventParser();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      this._opened();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        alive();
        parser.push(piece.value).forEach(event => this._tell(event));
      }
    } finally {
      window.clearTimeout(silence);
    }
  }

  private _opened(): void {
    this._wait = FIRST_WAIT;
    this._problem = null;
    this._set('open');
    TOPICS.forEach(topic => this._changed.emit(topic));
  }

  private _tell(event: IServerEvent): void {
    let data: unknown;
    try {
      data = JSON.parse(event.data);
    } catch {
      return; // half a line of a server that died: the next connection tells everything again
    }
    if (event.event === 'changed') {
      this._changed.emit((data as { topic: Topic }).topic);
    } else if (event.event === 'job') {
      this._job.emit(data as IJob);
    } else if (event.event === 'pipeline-run') {
      this._pipelineRun.emit(data as IPipelineRun);
    } else if (event.event === 'incident') {
      this._incident.emit(data as IIncident);
    }
  }

  private _set(state: StreamState): void {
    if (state !== this._state) {
      this._state = state;
      this._stateChanged.emit(state);
    }
  }

  private _changed = new Signal<this, Topic>(this);
  private _job = new Signal<this, IJob>(this);
  private _pipelineRun = new Signal<this, IPipelineRun>(this);
  private _incident = new Signal<this, IIncident>(this);
  private _stateChanged = new Signal<this, StreamState>(this);
  private _state: StreamState = 'idle';
  private _problem: Problem | null = null;
  private _background = false;
  private _listeners = 0;
  private _wait = FIRST_WAIT;
  private _stop: AbortController | null = null;
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = window.setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      window.clearTimeout(timer);
      resolve();
    });
  });
}

/** What the plugins of aiplat share: the routes, the events, and the way to a thing's tab. */
export interface IAiplat {
  readonly api: Api;
  readonly events: Events;
  /** Show a thing in a tab of its own, or bring that tab to the front. */
  open(kind: ViewKind, id: string): void;
}

export const IAiplat = new Token<IAiplat>('aiplat:IAiplat', 'The REST routes of aiplat and the events of its server.');
