// All runs, newest first. Pages come as they are scrolled into sight; after a change only what is in sight is asked again.
import { addIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { asProblem, IAiplat, IRun, IRunPage } from '../api';
import { openForm } from './actions';
import { IRow, ISource, List } from './list';
import { Section } from './section';
import { ago, count, duration, fullTime, markOf, score, when } from './words';

/** What is asked for first, and after a change. */
const PAGE = 100;
/** What is asked for while somebody scrolls down. */
const MORE = 200;
/** How far before the end of what is known the next page is asked for. */
const AHEAD = 60;
/** Milliseconds until a page that could not be had is asked for again. */
const RETRY = 2000;

export class Runs extends Section {
  constructor(shared: IAiplat, commands: CommandRegistry) {
    super(shared, 'Runs', ['runs']);
    this._list = new List('Runs');
    this._list.opened.connect((_, row) => shared.open('run', row.id));
    this._list.ranged.connect((_, range) => void this._ensure(range));
    this.button(addIcon, 'Train a model…', () => openForm(commands, 'train'));
    this.addPart(this._list);
  }

  dispose(): void {
    window.clearTimeout(this._again);
    super.dispose();
  }

  protected async load(): Promise<void> {
    const generation = (this._generation += 1);
    this._failed = false;
    this._take(0, await this.shared.api.runs({ limit: PAGE }), generation);
    await this._ensure(this._list.range);
  }

  /** Ask for what is in sight and old, and for the next page when the end of what is known comes near. */
  private async _ensure([first, last]: [number, number]): Promise<void> {
    if (this._loading || this._failed) {
      return;
    }
    const old = this._runs.slice(first, last).findIndex(run => run.generation < this._generation);
    const from = old >= 0 ? first + old : this._next && last > this._runs.length - AHEAD ? this._runs.length : 0;
    if (from === 0) {
      return;
    }
    this._loading = true;
    const generation = this._generation;
    try {
      const before = this._runs[from - 1].id;
      const page = await this.shared.api.runs({ limit: old >= 0 ? PAGE : MORE, before });
      const at = this._runs.findIndex(run => run.id === before); // another answer may have come in between
      if (at >= 0) {
        this._take(at + 1, page, generation);
      }
    } catch (caught) {
      const problem = asProblem(caught);
      this.tell(problem);
      this._failed = true;
      if (problem.status === 404) {
        this._runs = []; // the run after which was asked is gone: begin at the newest again
        this.refresh();
      } else {
        window.clearTimeout(this._again);
        this._again = window.setTimeout(() => this._retry(), RETRY);
      }
    } finally {
      this._loading = false;
    }
    this._list.update();
  }

  private _retry(): void {
    this._failed = false;
    this.tell(null);
    this._list.update();
  }

  /**
   * Put a page in its place: runs that it no longer has are gone, those after it stay where it ends among them.
   *
   * It is as old as its question: a change that came while it was on its way is not in it.
   */
  private _take(at: number, page: IRunPage, generation: number): void {
    const seen = new Set(page.runs.map(run => run.id));
    const lastSeen = page.runs.length ? this._runs.findIndex(run => run.id === page.runs[page.runs.length - 1].id) : -1;
    const rest = lastSeen >= 0 && page.next ? this._runs.slice(lastSeen + 1).filter(run => !seen.has(run.id)) : [];
    const fresh = page.runs.map(run => ({ ...run, generation }));
    this._runs = [...this._runs.slice(0, at).filter(run => !seen.has(run.id)), ...fresh, ...rest];
    if (!rest.length) {
      this._next = page.next ?? null;
    }
    this._show();
  }

  private _show(): void {
    const running = this._runs.filter(run => markOf(run.state) === 'busy').length;
    this.title.label = running ? `Runs (${running} running)` : 'Runs';
    this._list.set(new RunRows(this._runs, this._next === null), 'No run yet. `%aiplat train` makes the first.');
  }

  private _list: List;
  private _runs: IKnown[] = [];
  private _next: string | null = null;
  private _generation = 0;
  private _loading = false;
  private _failed = false;
  private _again = 0;
}

interface IKnown extends IRun {
  /** As of which change it was asked for. */
  generation: number;
}

/** Rows made when they are seen. */
class RunRows implements ISource {
  constructor(
    private readonly _runs: readonly IRun[],
    private readonly _all: boolean
  ) {}

  get length(): number {
    return this._runs.length;
  }

  find(key: string): number {
    return this._runs.findIndex(run => run.id === key);
  }

  row(index: number): IRow {
    return { ...runRow(this._runs[index]), position: index + 1, siblings: this._all ? this._runs.length : -1 };
  }
}

function runRow(run: IRun): IRow {
  const mark = markOf(run.state);
  const value = run.value === null ? '' : score(run.value);
  const measured = value && run.metric ? `${run.metric} ${value}` : value;
  const facts = [
    run.name === run.id ? '' : run.id,
    [run.task, run.trials ? count(run.trials, 'trial') : ''].filter(Boolean).join(', '),
    measured,
    [run.user ? `by ${run.user}` : '', fullTime(run.started)].filter(Boolean).join(', '),
    run.seconds === null || mark === 'busy' ? '' : `took ${duration(run.seconds)}`
  ];
  return {
    key: run.id,
    kind: 'run',
    id: run.id,
    level: 1,
    mark,
    state: run.state,
    label: run.name || run.id.slice(0, 8),
    badges: value ? [{ text: value, mark: 'none', title: measured }] : [],
    ...(mark === 'busy' && run.started ? { since: when(run.started) } : { note: ago(run.started) }),
    title: [`${run.name || run.id} · ${run.state}`, ...facts].filter(Boolean).join('\n')
  };
}
