// A tree of rows of one height, of which only those that can be seen are in the page: 10,000 rows cost as much as forty.
//
// It is one stop of the Tab key, like Lab's own lists; the arrows move inside it. Where the current row is, is told to
// screen readers by `aria-activedescendant`, which is why the current row stays in the page even when scrolled away.
import { Widget } from '@lumino/widgets';
import { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import { caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import { drawMark, duration, Mark } from './words';

export interface IBadge {
  text: string;
  mark: Mark;
  title: string;
  /** Whether it is so (filled), or only judged (outlined). */
  held?: boolean;
}

/** What one row shows. All of it is text of the server's: it goes in by textContent. */
export interface IRow {
  /** Who it is, through all changes. */
  key: string;
  /** What the context menu and `Open` need to know. */
  kind: string;
  id: string;
  level: number;
  /** Whether its children are shown; undefined for a leaf. */
  open?: boolean;
  mark: Mark;
  /** The mark in a word. */
  state: string;
  label: string;
  badges?: IBadge[];
  note?: string;
  /** Milliseconds since the epoch: the note is the time since then, and goes on. */
  since?: number;
  /** From 0 to 1. */
  progress?: number;
  title: string;
  position?: number;
  siblings?: number;
}

export interface ISource {
  readonly length: number;
  row(index: number): IRow;
  /** Where a row is now, or -1. */
  find(key: string): number;
}

/** A source whose rows are all made already. */
export class Rows implements ISource {
  constructor(readonly all: IRow[]) {}

  get length(): number {
    return this.all.length;
  }

  row(index: number): IRow {
    return this.all[index];
  }

  find(key: string): number {
    return this.all.findIndex(row => row.key === key);
  }
}

export const ROW = 24;
const OVERSCAN = 8;
let lists = 0;

interface IDrawn {
  node: HTMLElement;
  row: string;
}

export class List extends Widget {
  constructor(label: string) {
    super();
    this.addClass('aip-List');
    this._label = label;
    this._prefix = `aip-list-${(lists += 1)}`;
    this._space = document.createElement('div');
    this._space.className = 'aip-List-space';
    this._space.setAttribute('role', 'presentation');
    this._empty = document.createElement('p');
    this._empty.className = 'aip-List-empty';
    this.node.append(this._space, this._empty);
    this._adjust();
  }

  /** Somebody wants to see what a row stands for. */
  get opened(): ISignal<this, IRow> {
    return this._opened;
  }

  /** Somebody wants to see or hide the children of a row. */
  get toggled(): ISignal<this, IRow> {
    return this._toggled;
  }

  /** Which rows are in the page now: the first and the one after the last. */
  get ranged(): ISignal<this, [number, number]> {
    return this._ranged;
  }

  get range(): [number, number] {
    const first = Math.floor(this.node.scrollTop / ROW);
    return [first, Math.min(this._source.length, first + Math.ceil(this.node.clientHeight / ROW) + 1)];
  }

  /** The row that the keyboard is on. */
  get current(): IRow | null {
    const index = this._index();
    return index < 0 ? null : this._source.row(index);
  }

  /** Show other rows; the current row stays current, and what is seen stays in place when rows come in above it. */
  set(source: ISource, empty: string): void {
    const top = this.node.scrollTop;
    const anchor =
      top > 0 && this._source.length
        ? this._source.row(Math.min(Math.floor(top / ROW), this._source.length - 1))
        : null;
    const before = anchor ? this._source.find(anchor.key) : 0;
    const after = anchor ? source.find(anchor.key) : -1;
    this._source = source;
    // what stands between backticks can be typed
    this._empty.replaceChildren(...empty.split('`').map((part, i) => (i % 2 ? code(part) : part)));
    this._adjust();
    if (after >= 0 && after !== before) {
      this.node.scrollTop = top + (after - before) * ROW;
    }
    this._draw();
  }

  /** Draw again: rows of the same source have changed. */
  protected onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    this._draw();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    for (const type of EVENTS) {
      this.node.addEventListener(type, this, type === 'scroll' ? { passive: true } : undefined);
    }
    this._draw();
  }

  protected onBeforeDetach(message: Message): void {
    EVENTS.forEach(type => this.node.removeEventListener(type, this));
    window.clearTimeout(this._tick);
    super.onBeforeDetach(message);
  }

  protected onResize(message: Widget.ResizeMessage): void {
    super.onResize(message);
    this._draw();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._draw();
  }

  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.node.focus();
  }

  handleEvent(event: Event): void {
    switch (event.type) {
      case 'scroll':
        this._draw();
        break;
      case 'click':
        this._click(event as MouseEvent);
        break;
      case 'keydown':
        this._key(event as KeyboardEvent);
        break;
      case 'contextmenu':
        this._menu(event as MouseEvent);
        break;
      case 'focus':
        if (this._index() < 0 && this._source.length) {
          this._go(this.range[0], false);
        }
        break;
    }
  }

  private _adjust(): void {
    const full = this._source.length > 0;
    this._space.style.height = `${this._source.length * ROW}px`;
    this._empty.hidden = full || !this._empty.textContent;
    // a tree without items is none for a screen reader; the keyboard may wait in it for its first row all the same
    this.node.setAttribute('role', full ? 'tree' : 'group');
    this.node.setAttribute('aria-label', this._label);
    this.node.tabIndex = 0;
    if (full && this._index() < 0 && document.activeElement === this.node) {
      this._current = this._source.row(0).key;
    }
  }

  private _index(): number {
    return this._current ? this._source.find(this._current) : -1;
  }

  private _draw(): void {
    window.clearTimeout(this._tick);
    if (!this.isVisible) {
      return;
    }
    const [first, last] = this.range;
    const wanted = new Set<number>();
    for (let i = Math.max(0, first - OVERSCAN); i < Math.min(this._source.length, last + OVERSCAN); i++) {
      wanted.add(i);
    }
    const current = this._index();
    if (current >= 0) {
      wanted.add(current);
    }
    const left = new Map(this._drawn);
    let alive = false;
    for (const index of wanted) {
      const row = this._source.row(index);
      alive ||= row.since !== undefined;
      left.delete(row.key);
      this._place(row, index, index === current);
    }
    left.forEach((drawn, key) => {
      drawn.node.remove();
      this._drawn.delete(key);
    });
    const active = current >= 0 ? this._drawn.get(this._source.row(current).key) : undefined;
    active
      ? this.node.setAttribute('aria-activedescendant', active.node.id)
      : this.node.removeAttribute('aria-activedescendant');
    if (alive) {
      this._tick = window.setTimeout(() => this._draw(), 1000);
    }
    this._ranged.emit([first, last]);
  }

  private _place(row: IRow, index: number, current: boolean): void {
    const note = row.since === undefined ? row.note : duration((Date.now() - row.since) / 1000);
    const text = JSON.stringify([row, note]);
    let drawn = this._drawn.get(row.key);
    if (!drawn) {
      const node = document.createElement('div');
      node.id = `${this._prefix}-${(this._made += 1)}`;
      node.className = 'aip-Row';
      node.setAttribute('role', 'treeitem');
      drawn = { node, row: '' };
      this._drawn.set(row.key, drawn);
      this._space.append(node);
    }
    if (drawn.row !== text) {
      drawn.row = text;
      fill(drawn.node, row, note ?? '');
    }
    drawn.node.style.top = `${index * ROW}px`;
    drawn.node.classList.toggle('aip-mod-current', current);
    drawn.node.setAttribute('aria-selected', String(current));
  }

  private _go(index: number, scroll = true): void {
    if (!this._source.length) {
      return;
    }
    const at = Math.max(0, Math.min(this._source.length - 1, index));
    this._current = this._source.row(at).key;
    if (scroll) {
      const top = at * ROW;
      const { scrollTop, clientHeight } = this.node;
      this.node.scrollTop =
        top < scrollTop ? top : top + ROW > scrollTop + clientHeight ? top + ROW - clientHeight : scrollTop;
    }
    this._draw();
  }

  private _hit(event: Event): IRow | null {
    const node = (event.target as Element).closest<HTMLElement>('.aip-Row');
    const index = node ? this._source.find(node.dataset.key ?? '') : -1;
    return index < 0 ? null : this._source.row(index);
  }

  private _click(event: MouseEvent): void {
    const row = this._hit(event);
    if (!row) {
      return;
    }
    this._current = row.key;
    this._draw();
    if ((event.target as Element).closest('.aip-Row-twisty') && row.open !== undefined) {
      this._toggled.emit(row);
    } else {
      this._opened.emit(row);
    }
  }

  private _menu(event: MouseEvent): void {
    const row = this._hit(event);
    if (row) {
      this._current = row.key;
      this._draw();
      return;
    }
    // by keyboard the event is the list's: it is told again as the current row's, for whom there is a menu
    const current = this.current;
    const node = current && this._drawn.get(current.key)?.node;
    if (node && event.isTrusted) {
      event.preventDefault();
      event.stopPropagation();
      const at = node.getBoundingClientRect();
      const again = { bubbles: true, cancelable: true, clientX: at.left + 24, clientY: at.bottom - 4 };
      node.dispatchEvent(new MouseEvent('contextmenu', again));
    }
  }

  private _key(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const at = this._index();
    const row = at < 0 ? null : this._source.row(at);
    const page = Math.max(1, Math.floor(this.node.clientHeight / ROW) - 1);
    const steps: Record<string, number> = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      Home: 0,
      End: this._source.length - 1,
      PageDown: at + page,
      PageUp: at - page
    };
    if (event.key in steps) {
      this._go(steps[event.key]);
    } else if (row && (event.key === 'Enter' || event.key === ' ')) {
      this._opened.emit(row);
    } else if (row && event.key === 'ArrowRight') {
      row.open === false ? this._toggled.emit(row) : row.open && this._go(at + 1);
    } else if (row && event.key === 'ArrowLeft') {
      row.open ? this._toggled.emit(row) : this._up(at, row.level);
    } else if (event.key.length === 1 && !event.shiftKey) {
      this._seek(event.key, at);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private _up(from: number, level: number): void {
    for (let i = from - 1; i >= 0 && level > 1; i--) {
      if (this._source.row(i).level < level) {
        this._go(i);
        return;
      }
    }
  }

  /** The next row whose name begins with a letter, as in the file browser. */
  private _seek(letter: string, from: number): void {
    const far = Math.min(this._source.length, 1000);
    for (let step = 1; step <= far; step++) {
      const index = (from + step + this._source.length) % this._source.length;
      if (this._source.row(index).label.toLowerCase().startsWith(letter.toLowerCase())) {
        this._go(index);
        return;
      }
    }
  }

  private _opened = new Signal<this, IRow>(this);
  private _toggled = new Signal<this, IRow>(this);
  private _ranged = new Signal<this, [number, number]>(this);
  private _label: string;
  private _prefix: string;
  private _space: HTMLElement;
  private _empty: HTMLElement;
  private _source: ISource = new Rows([]);
  private _drawn = new Map<string, IDrawn>();
  private _current = '';
  private _made = 0;
  private _tick = 0;
}

const EVENTS = ['scroll', 'click', 'keydown', 'contextmenu', 'focus'] as const;

function code(text: string): HTMLElement {
  const node = document.createElement('code');
  node.textContent = text;
  return node;
}

function span(name: string, text = ''): HTMLElement {
  const node = document.createElement('span');
  node.className = name;
  node.textContent = text;
  return node;
}

/** Names may be as long as people like; more than this is seen in the tab. */
const LONG = 300;

export function short(text: string): string {
  return text.length > LONG ? `${text.slice(0, LONG)}…` : text;
}

function fill(node: HTMLElement, row: IRow, note: string): void {
  node.dataset.key = row.key;
  node.dataset.kind = row.kind;
  node.dataset.id = row.id;
  node.title = short(row.title);
  node.style.setProperty('--aip-level', String(row.level - 1));
  const badges = row.badges ?? [];
  const name = [row.label, row.state, ...badges.map(badge => badge.title), note];
  const attributes: Record<string, string | undefined> = {
    'aria-label': name.filter(Boolean).map(short).join(', '),
    'aria-level': String(row.level),
    'aria-expanded': row.open === undefined ? undefined : String(row.open),
    'aria-posinset': row.position === undefined ? undefined : String(row.position),
    'aria-setsize': row.siblings === undefined ? undefined : String(row.siblings)
  };
  for (const [key, value] of Object.entries(attributes)) {
    value === undefined ? node.removeAttribute(key) : node.setAttribute(key, value);
  }
  // Only what is different is drawn anew: a spinner goes on turning, and what the mouse went down on is still there when it
  // comes up (else there is no click).
  PARTS.forEach(([about, draw], place) => {
    const text = JSON.stringify(about(row, note));
    const old = node.children[place] as HTMLElement | undefined;
    if (!old || drawnAs.get(old) !== text) {
      const made = draw(row, note);
      drawnAs.set(made, text);
      old ? old.replaceWith(made) : node.append(made);
    }
  });
}

const drawnAs = new WeakMap<HTMLElement, string>();

type Part = [about: (row: IRow, note: string) => unknown, draw: (row: IRow, note: string) => HTMLElement];

const PARTS: readonly Part[] = [
  [row => row.open ?? null, drawTwisty],
  [row => row.mark, row => drawMark(row.mark)],
  [row => row.label, drawLabel],
  [row => row.badges ?? [], drawBadges],
  [(_, note) => note, (_, note) => span('aip-Row-note', short(note))],
  [row => row.progress ?? null, drawBar]
];

function drawTwisty(row: IRow): HTMLElement {
  const twisty = span('aip-Row-twisty');
  if (row.open !== undefined) {
    (row.open ? caretDownIcon : caretRightIcon).element({ container: twisty });
  }
  return twisty;
}

function drawLabel(row: IRow): HTMLElement {
  const label = span('aip-Row-label', short(row.label));
  label.dir = 'auto'; // right-to-left names keep to themselves
  return label;
}

function drawBadges(row: IRow): HTMLElement {
  const all = span('aip-Row-badges');
  for (const badge of row.badges ?? []) {
    const each = span(`aip-Badge${badge.held ? ' aip-mod-held' : ''}`);
    each.append(drawMark(badge.mark), span('aip-Badge-text', short(badge.text)));
    all.append(each);
  }
  return all;
}

function drawBar(row: IRow): HTMLElement {
  const bar = span('aip-Row-bar');
  bar.hidden = row.progress === undefined;
  const done = span('aip-Row-done');
  done.style.width = `${Math.round(100 * Math.max(0, Math.min(1, row.progress ?? 0)))}%`;
  bar.append(done);
  return bar;
}
