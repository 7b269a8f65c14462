// What failed, is late or works again, as a notification: once per incident and browser, however many windows are open.
//
// Windows that can be seen listen to the server's stream of incidents. What the browser has told already stands in its local
// storage, behind a lock for each, so that of two windows side by side one speaks. What was wrong before the browser came here first is
// no news; it stands silently in the list of notifications.
import { Notification } from '@jupyterlab/apputils';
import { IDisposable } from '@lumino/disposable';
import { Api, Events, IIncident } from '../api';
import { when } from './words';

/** The longest text that Lab shows in a notification. */
const LONGEST = 140;
/** Milliseconds for which good news stands. */
const GOOD_NEWS = 15_000;
/** Milliseconds after which every window reads from the browser's storage what one of them has written. */
const SETTLED = 10_000;
/** Incidents that the browser remembers to have told. */
const REMEMBERED = 200;

export interface IWays {
  open: (run: string) => void;
  resume: (run: string) => void;
  copy: (text: string) => void;
}

/** What this browser has told: since when it looks, and by incident whether it was told as open or as over. */
interface IMemory {
  since: number;
  told: Record<string, 'open' | 'over'>;
}

export class Incidents {
  constructor(
    private readonly _api: Api,
    private readonly _ways: IWays
  ) {
    this._events = new Events(_api, 'incidents/events');
    this._events.incident.connect((_, incident) => {
      // one after the other: that it is over must not overtake that it began
      this._queue = this._queue.then(() => this._take(incident)).catch(reason => console.warn('aiplat:', reason));
    });
  }

  /** Begin or end to tell; on the desktop too, while no window is in front. */
  configure(wanted: boolean, desktop: boolean): void {
    if (wanted && !this._listening) {
      this._remember(memory => memory); // from now on, what goes wrong is news
      this._listening = this._events.listen();
    } else if (!wanted && this._listening) {
      this._listening.dispose();
      this._listening = null;
      [...this._shown.keys()].forEach(id => this._dismiss(id));
    }
    void this._onDesktop(wanted && desktop);
  }

  private async _take(incident: IIncident): Promise<void> {
    if (!this._listening) {
      return;
    }
    const over = !!incident.closed;
    const news = await this._claim(incident);
    if (over) {
      this._dismiss(incident.id);
      if (news) {
        this._show(incident, GOOD_NEWS);
      }
    } else if (this._shown.has(incident.id)) {
      const { message, ...options } = this._told(incident);
      Notification.update({ id: this._shown.get(incident.id)!, message, ...options });
    } else {
      this._show(incident, news ? false : 0);
    }
    if (news && this._desktop && !document.hasFocus()) {
      this._tellDesktop(incident);
    }
  }

  /** Whether this window is the one to tell it; for all other windows of this browser it is told then. */
  private async _claim(incident: IIncident): Promise<boolean> {
    const decide = (): boolean => {
      let news = false;
      this._remember(memory => {
        // another window may have told it a moment ago, and its word not have reached the storage of this one
        const before = memory.told[incident.id] ?? (this._shown.has(incident.id) ? 'open' : undefined);
        if (incident.closed) {
          news = before === 'open' && !incident.quiet;
        } else {
          news = !before && when(incident.last ?? incident.when) > memory.since;
        }
        const told = { ...memory.told, [incident.id]: incident.closed ? ('over' as const) : ('open' as const) };
        const keys = Object.keys(told);
        keys.slice(0, Math.max(0, keys.length - REMEMBERED)).forEach(key => delete told[key]);
        return incident.closed && !before ? memory : { ...memory, told };
      });
      return news;
    };
    if (!navigator.locks) {
      return decide(); // without a secure context there are no locks: then two windows at the same instant may both speak
    }
    // whoever tells it keeps the lock until the others can read that it was told: storage reaches them later than the lock
    return new Promise(resolve => {
      const held = async (lock: Lock | null): Promise<void> => {
        if (!lock) {
          resolve(false); // another window decides; were it remembered as told here, that window might find it told by nobody
          return;
        }
        const news = decide();
        resolve(news);
        if (news) {
          await new Promise(end => window.setTimeout(end, SETTLED));
        }
      };
      const name = `${this._key}:${incident.id}:${incident.closed ? 'over' : 'open'}`;
      navigator.locks.request(name, { ifAvailable: true }, held).catch(() => resolve(decide()));
    });
  }

  private get _key(): string {
    return `aiplat:incidents:${this._api.settings.baseUrl}`;
  }

  /** Change what the browser remembers; where it may not keep anything, the window does. */
  private _remember(change: (memory: IMemory) => IMemory): void {
    let memory = this._memory;
    try {
      memory = JSON.parse(window.localStorage.getItem(this._key) ?? 'null') ?? memory;
    } catch {
      // storage is closed, or holds what is none of ours
    }
    if (typeof memory?.since !== 'number' || typeof memory.told !== 'object') {
      memory = { since: Date.now(), told: {} };
    }
    this._memory = change(memory);
    try {
      window.localStorage.setItem(this._key, JSON.stringify(this._memory));
    } catch {
      // as above
    }
  }

  private _show(incident: IIncident, autoClose: number | false): void {
    const { message, type, actions } = this._told(incident);
    const id = Notification.emit(message, type, { autoClose, actions });
    if (!incident.closed) {
      this._shown.set(incident.id, id);
    }
  }

  private _dismiss(id: string): void {
    const known = this._shown.get(id);
    this._shown.delete(id);
    if (known) {
      Notification.dismiss(known);
    }
  }

  /** How an incident is told: what, where, why, and the ways on. */
  private _told(incident: IIncident) {
    const { run, command, kind, closed } = incident;
    const actions: Notification.IAction[] = [];
    if (run) {
      actions.push({ label: 'Open Run', displayType: 'accent', callback: () => this._ways.open(run) });
    }
    if (run && !closed && kind === 'failure') {
      actions.push({ label: 'Resume…', callback: () => this._ways.resume(run) });
    }
    if (command && !closed) {
      const copy = (event: MouseEvent) => {
        event.preventDefault(); // the notification stays
        this._ways.copy(command);
      };
      actions.push({ label: 'Copy Command', caption: command, displayType: 'link', callback: copy });
    }
    const type: Notification.TypeOptions = closed ? 'success' : kind === 'failure' ? 'error' : 'warning';
    return { message: words(incident).join('\n'), type, actions };
  }

  private async _onDesktop(wanted: boolean): Promise<void> {
    if (wanted === this._wished || !('Notification' in window)) {
      return;
    }
    this._wished = wanted;
    let granted = wanted && window.Notification.permission === 'granted';
    if (wanted && window.Notification.permission === 'default') {
      granted = (await window.Notification.requestPermission()) === 'granted';
    }
    if (wanted && !granted) {
      Notification.warning('The browser does not allow aiplat to show notifications on the desktop.');
    }
    this._desktop = granted && this._wished;
    this._release?.abort();
    this._release = null;
    this._events.background = false;
    if (this._desktop && navigator.locks) {
      // of all windows of this browser one listens while it cannot be seen; when it is closed, another one does
      const release = (this._release = new AbortController());
      const held = () =>
        new Promise<void>(end => {
          this._events.background = true;
          release.signal.addEventListener('abort', () => end());
        });
      navigator.locks.request(`${this._key}:desktop`, { signal: release.signal }, held).catch(() => undefined);
    }
  }

  private _tellDesktop(incident: IIncident): void {
    const [title, ...rest] = words(incident);
    const told = new window.Notification(title, { body: rest.join('\n'), tag: incident.id });
    told.onclick = () => {
      window.focus();
      told.close();
      if (incident.run) {
        this._ways.open(incident.run);
      }
    };
  }

  private _events: Events;
  private _listening: IDisposable | null = null;
  private _queue: Promise<void> = Promise.resolve();
  private _memory: IMemory | null = null;
  /** By incident, the notification of this window. */
  private _shown = new Map<string, string>();
  private _wished = false;
  private _desktop = false;
  private _release: AbortController | null = null;
}

/** An incident in lines: what; the cell and the error. */
function words(incident: IIncident): string[] {
  const { name, kind, what, closed, count, cell, error } = incident;
  if (closed) {
    const pipeline = /^pipeline:(.*?)(@|$| backfill$)/.exec(name)?.[1];
    const good = pipeline ? `${pipeline} ${kind === 'failure' ? 'works again' : 'is done'}` : `Over: ${what}`;
    return [cut(good, LONGEST)];
  }
  const often = count > 1 ? ` (${count} times)` : '';
  const head = cut(what, 80) + often;
  const number = /^\d+/.exec(cell ?? '')?.[0];
  const why = [number ? `Cell ${number}` : '', error ?? ''].filter(Boolean).join(': ');
  return why ? [head, cut(why, LONGEST - head.length - 2)] : [head];
}

function cut(text: string, most: number): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}
