// The launcher's card for people who show their work: a tab that serves the dashboards and has the links to them.
import { MainAreaWidget } from '@jupyterlab/apputils';
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import { asProblem, IAiplat, IJob } from '../api';
import { aiplatIcon } from './icon';

const PAGES: readonly [string, string, string][] = [
  [
    'portfolio',
    'Portfolio',
    'Each model in production: since when, by whom, its gate and the age of its evidence, fairness, runs, cost.'
  ],
  ['model', 'Model', 'One model: card, audit, explanation, history; approve, promote or roll back, according to role.'],
  [
    'production',
    'Production',
    'Models that answer people: versions side by side, alerts, guard rails, streams, and what to do next.'
  ],
  ['fairness', 'Fairness', 'One model: who is treated how, what other thresholds would do, and what fairness costs.'],
  ['operations', 'Operations', 'Pipelines, schedules, failures and the cluster.']
];

class DashboardsView extends Widget {
  constructor(private readonly _shared: IAiplat) {
    super();
    this.addClass('aip-Dashboards');
    this.node.tabIndex = 0;
    this._news = document.createElement('p');
    this._news.className = 'aip-Dashboards-news';
    this._news.setAttribute('role', 'status');
    this._links = document.createElement('ul');
    const title = document.createElement('h2');
    title.textContent = 'Dashboards';
    const about = document.createElement('p');
    about.textContent =
      'Pages for people who open no notebook. They are served on the machine of this Jupyter server; the links carry their token.';
    this.node.append(title, about, this._news, this._links);
    _shared.events.job.connect(this._onJob, this);
  }

  dispose(): void {
    this._shared.events.job.disconnect(this._onJob, this);
    super.dispose();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    void this._serve();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.update(); // only then are the parents attached too, and it is known whether this can be seen
  }

  protected onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    if (this.isVisible) {
      void this._serve();
    }
  }

  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    (this._links.querySelector('a') ?? this.node).focus();
  }

  /** Find the server of the dashboards, or start it. */
  private async _serve(): Promise<void> {
    if (this._busy) {
      return;
    }
    this._busy = true;
    try {
      const { dashboard } = await this._shared.api.cluster();
      if (!dashboard || dashboard !== this._served) {
        this._links.replaceChildren();
        this._say(dashboard ? 'Asking for the address…' : 'Starting the server of the dashboards…');
        const listening = this._shared.events.listen();
        try {
          // a job leaves the server running in the background; one that runs already is only named, with its token
          await this._end((await this._shared.api.start('dashboard')).id);
        } finally {
          listening.dispose();
        }
      }
    } catch (caught) {
      const problem = asProblem(caught);
      this._say([problem.title, problem.todo].filter(Boolean).join(' '), true);
    } finally {
      this._busy = false;
    }
  }

  /** Wait for the job that starts the server: its events tell the end; a question now and then in case one was missed. */
  private async _end(id: string): Promise<void> {
    let job = await this._shared.api.job(id);
    while (job.state === 'running') {
      await new Promise<void>(resolve => {
        const timer = window.setTimeout(resolve, 5000);
        this._wake = told => {
          if (told.id === id && told.state !== 'running') {
            window.clearTimeout(timer);
            resolve();
          }
        };
      });
      job = await this._shared.api.job(id);
    }
    const { address } = (job.result ?? {}) as { address?: unknown };
    if (job.state === 'done' && typeof address === 'string') {
      this._show(address);
    } else {
      this._say(
        [job.problem?.title ?? 'The dashboards are not served.', job.problem?.todo ?? ''].filter(Boolean).join(' '),
        true
      );
    }
  }

  private _show(address: string): void {
    let first: URL;
    try {
      first = new URL(address);
    } catch {
      return this._say('The server of the dashboards has no address.', true);
    }
    const items = PAGES.map(([page, name, about]) => {
      const link = document.createElement('a');
      const at = new URL(first);
      at.pathname = first.pathname.replace(/[^/]*$/, `${page}.ipynb`);
      link.href = at.href;
      link.target = '_blank';
      link.rel = 'noopener';
      link.textContent = name;
      const words = document.createElement('span');
      words.textContent = about;
      const item = document.createElement('li');
      item.append(link, words);
      return item;
    });
    this._served = address.split('?')[0];
    this._links.replaceChildren(...items);
    this._say('');
  }

  private _say(text: string, bad = false): void {
    this._news.textContent = text;
    this._news.classList.toggle('aip-mod-bad', bad);
  }

  private _onJob(_: unknown, job: IJob): void {
    this._wake(job);
  }

  private _news: HTMLElement;
  private _links: HTMLElement;
  private _served = '';
  private _busy = false;
  private _wake: (job: IJob) => void = () => undefined;
}

export class Dashboards extends MainAreaWidget<DashboardsView> {
  constructor(shared: IAiplat) {
    super({ content: new DashboardsView(shared) });
    this.id = 'aiplat-dashboards';
    this.title.label = 'Dashboards';
    this.title.icon = aiplatIcon;
    this.title.closable = true;
  }
}
