// Pipelines with their schedules and latest runs; a run that goes on moves with the server's events, without a question.
import { runIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { IAiplat, IIncident, IPipeline, IPipelineRun, IPipelines, ISchedule, ViewKind } from '../api';
import { openForm } from './actions';
import { IBadge, IRow, List, Rows } from './list';
import { Section } from './section';
import { ago, duration, fullTime, markOf, when } from './words';

/** How many runs stand below a pipeline; all are in its tab. */
const LATEST = 5;

export class Pipelines extends Section {
  constructor(shared: IAiplat, commands: CommandRegistry) {
    super(shared, 'Pipelines and schedules', ['pipelines', 'schedules']);
    this._list = new List('Pipelines, their schedules and their runs');
    this._list.opened.connect((_, row) => shared.open(row.kind as ViewKind, row.id));
    this._list.toggled.connect((_, row) => this._toggle(row.id));
    shared.events.pipelineRun.connect(this._onRun, this);
    this.button(runIcon, 'Run a pipeline…', () => openForm(commands, 'pipeline run'));
    this.addPart(this._list);
  }

  dispose(): void {
    this.shared.events.pipelineRun.disconnect(this._onRun, this);
    super.dispose();
  }

  protected async load(): Promise<void> {
    this._news.clear();
    const told = await this.shared.api.pipelines();
    this._news.forEach(run => put(told, run)); // what was told while the server answered is newer than the answer
    this._told = told;
    this._show();
  }

  private _onRun(_: unknown, run: IPipelineRun): void {
    this._news.set(run.id, run);
    if (this._told) {
      put(this._told, run);
      this._show();
    }
  }

  private _toggle(name: string): void {
    if (!this._closed.delete(name)) {
      this._closed.add(name);
    }
    this._show();
  }

  private _show(): void {
    const told = this._told;
    if (!told) {
      return;
    }
    const rows = told.incidents.map(incidentRow);
    const named = new Set(told.pipelines.map(each => each.name));
    told.pipelines.forEach((pipeline, place) => {
      const runs = told.runs.filter(run => run.pipeline === pipeline.name);
      const below = [
        ...pipeline.schedules.map(schedule => scheduleRow(schedule, told.scheduler.alive)),
        ...runs.slice(0, LATEST).map(run => runRow(run, 2))
      ];
      const open = below.length ? !this._closed.has(pipeline.name) : undefined;
      const row = pipelineRow(pipeline, runs[0] ?? pipeline.last ?? undefined, open);
      rows.push({ ...row, position: place + 1, siblings: told.pipelines.length });
      if (open) {
        rows.push(...below.map((each, i) => ({ ...each, position: i + 1, siblings: below.length })));
      }
    });
    // runs of pipelines whose files are gone, and of single notebooks
    const others = told.runs.filter(run => !named.has(run.pipeline)).slice(0, 4 * LATEST);
    rows.push(...others.map(run => runRow(run, 1)));
    this._list.set(new Rows(rows), 'No pipeline yet. `%aiplat pipeline init` writes one from notebooks.');
  }

  private _list: List;
  private _told: IPipelines | null = null;
  /** By run, the last event since the last question. */
  private _news = new Map<string, IPipelineRun>();
  private _closed = new Set<string>();
}

/** Bring a run to what an event told of it. */
function put(told: IPipelines, run: IPipelineRun): void {
  const at = told.runs.findIndex(each => each.id === run.id);
  if (at < 0) {
    told.runs.unshift(run);
  } else {
    told.runs[at] = { ...told.runs[at], ...run };
  }
}

function pipelineRow(pipeline: IPipeline, last: IPipelineRun | undefined, open: boolean | undefined): IRow {
  const next = pipeline.next_fire;
  const mark = pipeline.broken ? 'bad' : markOf(last?.state);
  return {
    key: `pipeline:${pipeline.name}`,
    kind: 'pipeline',
    id: pipeline.name,
    level: 1,
    open,
    mark,
    state: last?.state ?? 'never run',
    label: pipeline.name,
    note: next ? ago(next) : '',
    title: [
      pipeline.name,
      pipeline.file ?? '',
      last ? `last run: ${last.state}, ${fullTime(last.started)}` : 'never run',
      next ? `next: ${fullTime(next)}` : ''
    ]
      .filter(Boolean)
      .join('\n')
  };
}

/** Something that is wrong until somebody mends it: its row opens the run that failed, or the pipeline. */
function incidentRow(incident: IIncident): IRow {
  const often = incident.count > 1 ? ` (${incident.count} times)` : '';
  return {
    key: `incident:${incident.id}`,
    kind: incident.run ? 'pipeline-run' : 'pipeline',
    id: incident.run ?? incident.name,
    level: 1,
    mark: 'bad',
    state: 'open incident',
    label: incident.what,
    note: ago(incident.when),
    title: `${incident.what}${often}\n${fullTime(incident.when)}`
  };
}

function scheduleRow(schedule: ISchedule, alive: boolean): IRow {
  const badges: IBadge[] = [];
  if (!schedule.paused && !alive) {
    badges.push({
      text: 'no scheduler',
      mark: 'warn',
      title: 'No scheduler runs: nothing starts by itself. aiplat scheduler run starts one.'
    });
  }
  // what no scheduler will do has no time
  const next = schedule.paused || !alive ? '' : ago(schedule.next_fire);
  return {
    key: `schedule:${schedule.name}`,
    kind: 'schedule',
    id: schedule.name,
    level: 2,
    mark: schedule.paused ? 'off' : 'wait',
    state: schedule.paused ? 'paused' : 'scheduled',
    label: schedule.words || schedule.spec,
    badges,
    note: schedule.paused ? 'paused' : next,
    title: [
      `schedule ${schedule.name}: ${[schedule.words, schedule.kind, schedule.spec, schedule.tz].filter(Boolean).join(', ')}`,
      schedule.paused ? 'paused' : schedule.next_fire ? `next: ${fullTime(schedule.next_fire)}` : '',
      schedule.last_state ? `last run: ${schedule.last_state}` : ''
    ]
      .filter(Boolean)
      .join('\n')
  };
}

function runRow(run: IPipelineRun, level: number): IRow {
  const mark = markOf(run.state);
  const at = [
    run.total ? `${run.done}/${run.total}` : '',
    run.step ?? '',
    run.cell && run.cells ? `cell ${run.cell}/${run.cells}` : ''
  ].filter(Boolean);
  const busy = mark === 'busy';
  const called = [level === 1 ? run.pipeline : '', run.id.slice(0, 8), run.cause ?? ''].filter(Boolean).join(' · ');
  const part = run.cell && run.cells ? run.cell / run.cells : 0;
  return {
    key: `run:${run.id}`,
    kind: 'pipeline-run',
    id: run.id,
    level,
    mark,
    state: run.state,
    label: busy ? at.join(' · ') || called : called,
    ...(busy && run.started
      ? { since: when(run.started), progress: run.total ? Math.min(1, (run.done + part) / run.total) : undefined }
      : { note: ago(run.started) }),
    title: [
      `${run.pipeline} · ${run.id} · ${run.state}`,
      at.join(' · '),
      run.line ?? '',
      run.reason ?? '',
      run.cause ? `started by ${run.cause}` : '',
      fullTime(run.started),
      run.seconds === null || busy ? '' : `took ${duration(run.seconds)}`
    ]
      .filter(Boolean)
      .join('\n')
  };
}
