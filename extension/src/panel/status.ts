// In the status bar: how many jobs and runs of pipelines go on. Off unless the settings say so, for it keeps the events open.
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import { IAiplat, IJob, IPipelineRun, Topic } from '../api';
import { Asker } from './asker';
import { count, markOf } from './words';

export class StatusItem extends Widget {
  constructor(
    private readonly _shared: IAiplat,
    onClick: () => void
  ) {
    super();
    this.addClass('aip-Status');
    this._button = document.createElement('button');
    this._button.className = 'aip-Status-button';
    this._button.title = 'aiplat: what runs now';
    this._button.addEventListener('click', onClick);
    this.node.append(this._button);
    const { events } = _shared;
    events.job.connect((_, job: IJob) => this._set(`job:${job.id}`, job.state === 'running'));
    events.pipelineRun.connect((_, run: IPipelineRun) => this._set(`run:${run.id}`, markOf(run.state) === 'busy'));
    events.changed.connect((_, topic: Topic) => topic === 'jobs' && this._active && this._asker.wish());
  }

  get active(): boolean {
    return this._active && this._running.size > 0;
  }

  get activeChanged(): ISignal<this, void> {
    return this._activeChanged;
  }

  /** Begin or end to listen. */
  configure(wanted: boolean): void {
    if (wanted === this._active) {
      return;
    }
    this._active = wanted;
    this._listening?.dispose();
    this._listening = wanted ? this._shared.events.listen() : null;
    this._running.clear();
    if (wanted) {
      this._asker.wish();
    }
    this._draw();
  }

  private async _ask(): Promise<void> {
    try {
      const [jobs, { runs }] = await Promise.all([this._shared.api.jobs(20), this._shared.api.pipelines()]);
      const running = [
        ...jobs.filter(job => job.state === 'running').map(job => `job:${job.id}`),
        ...runs.filter(run => markOf(run.state) === 'busy').map(run => `run:${run.id}`)
      ];
      this._running = new Set(running);
    } catch {
      this._running.clear(); // the panel says what is wrong
    }
    this._draw();
  }

  private _set(what: string, running: boolean): void {
    if (this._active) {
      running ? this._running.add(what) : this._running.delete(what);
      this._draw();
    }
  }

  private _draw(): void {
    this._button.textContent = `aiplat: ${count(this._running.size, 'task')} running`;
    this._activeChanged.emit();
  }

  private _button: HTMLButtonElement;
  private _running = new Set<string>();
  private _active = false;
  private _activeChanged = new Signal<this, void>(this);
  private _listening: IDisposable | null = null;
  private _asker = new Asker(
    () => this._ask(),
    () => this._active
  );
}
