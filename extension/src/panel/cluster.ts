// The local stack: whether Ray and the scheduler run, how much of the machine is taken, and the way to start and stop them.
import { runIcon, stopIcon } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';
import { IAiplat, ICluster, IJob, Problem } from '../api';
import { Button } from './button';
import { Section } from './section';
import { bytes, count, drawMark, figure, Mark } from './words';

/** Milliseconds between two looks at how busy the cluster is, while it runs and the section is seen. */
const TICK = 5000;

export class Cluster extends Section {
  constructor(shared: IAiplat) {
    super(shared, 'Cluster', ['cluster']);
    this._up = this.button(runIcon, 'Start the cluster', () => void this._run('up'));
    this._down = this.button(stopIcon, 'Stop the cluster', () => void this._run('down'));
    const body = new Widget();
    body.addClass('aip-Cluster');
    const inside = document.createElement('div');
    inside.className = 'aip-Cluster-inside';
    this._news = document.createElement('p');
    this._news.className = 'aip-Cluster-news';
    this._news.setAttribute('role', 'status');
    this._facts = document.createElement('div');
    inside.append(this._news, this._facts); // the news first: a low section shows no more than its top
    body.node.append(inside);
    this.addPart(body, 'State of the cluster');
    shared.events.job.connect(this._onJob, this);
    shared.events.changed.connect(this._onJobs, this);
    this._enable();
  }

  dispose(): void {
    window.clearTimeout(this._tick);
    this.shared.events.job.disconnect(this._onJob, this);
    this.shared.events.changed.disconnect(this._onJobs, this);
    super.dispose();
  }

  protected async load(): Promise<void> {
    this._told = await this.shared.api.cluster();
    this._draw(this._told);
    this._enable();
    window.clearTimeout(this._tick);
    if (this._told.ray.running) {
      // how busy Ray is, no event tells; hidden windows do not ask
      this._tick = window.setTimeout(() => !document.hidden && this.refresh(), TICK);
    }
  }

  private async _run(verb: 'up' | 'down'): Promise<void> {
    this._say(verb === 'up' ? 'Starting…' : 'Stopping…');
    this._job = 'asked';
    this._enable();
    try {
      this._follow(await this.shared.api.start(verb));
    } catch (caught) {
      this._ended(caught instanceof Problem ? caught : new Problem(-1, String(caught)));
    }
  }

  private _onJob(_: unknown, job: IJob): void {
    // somebody else's start or stop, from a form or another window, is followed too
    if (job.verb === 'up' || job.verb === 'down') {
      this._follow(job);
    }
  }

  /** After the server was away: how did the job end that was followed? */
  private _onJobs(_: unknown, topic: string): void {
    const id = this._job;
    if (topic === 'jobs' && id && id !== 'asked') {
      this.shared.api
        .job(id)
        .then(job => this._follow(job))
        .catch(() => this._ended(null));
    }
  }

  private _follow(job: IJob): void {
    if (job.state === 'running') {
      if (job.id === this._over) {
        return; // its start is answered after its end was told
      }
      this._job = job.id;
      const line = job.progress?.text || job.lines.filter(each => each.trim()).pop();
      this._say(line ?? (job.verb === 'up' ? 'Starting…' : 'Stopping…'));
    } else if (this._job === job.id || this._job === 'asked') {
      this._over = job.id;
      const told = job.problem ?? { title: `${job.line} ended: ${job.state}.`, todo: '' };
      this._ended(job.state === 'done' ? null : new Problem(-1, told.title, told.todo));
    }
    this._enable();
  }

  private _ended(problem: Problem | null): void {
    this._job = '';
    this._say(problem ? [problem.title, problem.todo].filter(Boolean).join(' ') : '', problem !== null);
    this._enable();
    this.refresh();
  }

  private _say(text: string, bad = false): void {
    this._news.textContent = text;
    this._news.classList.toggle('aip-mod-bad', bad);
  }

  private _enable(): void {
    const running = this._told?.ray.running ?? false;
    const local = this._told?.ray.local !== false;
    this._up.enabled = !this._job && this._told !== null && local && !running;
    // schedulers are services of their own: neither button begins or ends one
    const some = running || !!this._told?.ui || this._told?.ray.state === 'died';
    this._down.enabled = !this._job && this._told !== null && local && some;
  }

  private _draw(told: ICluster): void {
    const { ray } = told;
    const rows: HTMLElement[] = [];
    const nodes = ray.nodes ? ` on ${count(ray.nodes, 'node')}` : '';
    const bad = ray.state === 'died' || ray.state === 'unreachable';
    const state = ray.running
      ? `Ray runs${nodes}`
      : bad
        ? `Ray ${ray.state === 'died' ? 'has died' : 'cannot be reached'}`
        : 'Ray does not run';
    rows.push(line(ray.running ? 'good' : bad ? 'bad' : 'off', state, ray.address ?? ''));
    if (ray.running) {
      if (ray.cpus) {
        rows.push(meter('CPU', ray.cpus_used ?? 0, ray.cpus, `${figure(ray.cpus_used ?? 0)} of ${figure(ray.cpus)}`));
      }
      if (ray.memory) {
        const used = ray.memory_used ?? 0;
        rows.push(meter('Memory', used, ray.memory, `${bytes(used)} of ${bytes(ray.memory)}`));
      }
      if (typeof ray.queued === 'number') {
        rows.push(fact('Queue', ray.queued ? `${count(ray.queued, 'task')} waiting` : 'empty'));
      }
    } else if (told.machine) {
      const { cpus, load, memory, free } = told.machine;
      if (load !== null) {
        rows.push(meter('Load', load, cpus, `${figure(Math.round(10 * load) / 10)} on ${count(cpus, 'CPU')}`));
      }
      rows.push(meter('Memory', memory - free, memory, `${bytes(memory - free)} of ${bytes(memory)}`));
    }
    const alive = schedulerAlive(told);
    const how = alive ? '' : 'Schedules need one. In a terminal: aiplat scheduler run';
    rows.push(line(alive ? 'good' : 'off', alive ? 'A scheduler runs' : 'No scheduler runs', how));
    const links = [link('MLflow', told.ui), link('Dashboards', told.dashboard)].filter(each => each !== null);
    if (links.length) {
      const row = document.createElement('div');
      row.className = 'aip-Cluster-links';
      row.append(...links);
      rows.push(row);
    }
    this._facts.replaceChildren(...rows);
  }

  private _up: Button;
  private _down: Button;
  private _facts: HTMLElement;
  private _news: HTMLElement;
  private _told: ICluster | null = null;
  /** The id of the job that starts or stops, 'asked' before it has one, or nothing. */
  private _job = '';
  /** The id of the last one that ended. */
  private _over = '';
  private _tick = 0;
}

function schedulerAlive(told: ICluster): boolean {
  const scheduler = told.scheduler;
  return typeof scheduler === 'object' && scheduler !== null && !Array.isArray(scheduler)
    ? scheduler.alive === true
    : !!scheduler;
}

function element(tag: string, name: string, text = ''): HTMLElement {
  const node = document.createElement(tag);
  node.className = name;
  node.textContent = text;
  return node;
}

function line(mark: Mark, text: string, title: string): HTMLElement {
  const row = element('div', 'aip-Cluster-line');
  row.title = title;
  row.append(drawMark(mark), element('span', '', text));
  return row;
}

function fact(name: string, value: string): HTMLElement {
  const row = element('div', 'aip-Cluster-fact');
  row.append(element('span', 'aip-Cluster-name', name), element('span', '', value));
  return row;
}

function meter(name: string, used: number, all: number, words: string): HTMLElement {
  const row = fact(name, words);
  const bar = element('span', 'aip-Meter');
  const part = Math.max(0, Math.min(1, used / all));
  for (const [key, value] of Object.entries({
    role: 'meter',
    'aria-label': name,
    'aria-valuemin': '0',
    'aria-valuemax': String(all),
    'aria-valuenow': String(used),
    'aria-valuetext': words
  })) {
    bar.setAttribute(key, value);
  }
  const fill = element('span', 'aip-Meter-fill');
  fill.style.width = `${100 * part}%`;
  bar.append(fill);
  row.append(bar);
  return row;
}

/** A link to a page of ours; an address that is none of a web page is not followed. */
function link(text: string, address: string | null | undefined): HTMLAnchorElement | null {
  if (!address || !/^https?:\/\//.test(address)) {
    return null;
  }
  const node = document.createElement('a');
  node.href = address;
  node.target = '_blank';
  node.rel = 'noopener noreferrer';
  node.textContent = text;
  return node;
}
