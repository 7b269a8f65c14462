// One section of the side panel: asks the server when it is seen and something it shows has changed, and never otherwise.
import { LabIcon, PanelWithToolbar } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import { asProblem, IAiplat, Problem, Topic } from '../api';
import { AGAIN, Asker } from './asker';
import { Button } from './button';
import { IWish } from './heights';
import { ROW } from './list';
import { reach } from './reach';

export abstract class Section extends PanelWithToolbar {
  constructor(
    protected readonly shared: IAiplat,
    readonly name: string,
    private readonly _topics: readonly Topic[]
  ) {
    super();
    this.id = `aiplat-${name.toLowerCase().replace(/\W+/g, '-')}`;
    this.addClass('aip-Section');
    this.title.label = name;
    this.title.dataset = { id: this.id };
    this._said = new Widget({ node: document.createElement('p') });
    this._said.addClass('aip-Section-problem');
    this._said.node.setAttribute('role', 'status');
    this._said.node.append(this._words);
    this._said.hide();
    this.addPart(this._said, `What is wrong: ${name}`);
    shared.events.changed.connect(this._onChanged, this);
  }

  dispose(): void {
    this._sizes.disconnect();
    window.cancelAnimationFrame(this._frame);
    this._asker.dispose();
    this.shared.events.changed.disconnect(this._onChanged, this);
    super.dispose();
  }

  /** How high it would be if nothing in it scrolled; a row, before it is known. */
  get wish(): IWish {
    const wish = { height: 0, whole: 0, grows: false };
    for (const part of this.widgets.filter(each => !each.isHidden)) {
      const inside = [...part.node.children].map(each => each.getBoundingClientRect().height);
      const height = Math.max(ROW, Math.ceil(inside.reduce((sum, each) => sum + each, 0)));
      wish.height += height;
      const list = !this._labels.has(part.node);
      wish.whole += list ? ROW : height;
      wish.grows ||= list;
    }
    return wish;
  }

  /** What it holds has another height now. */
  get grown(): ISignal<this, void> {
    return this._grown;
  }

  /** Ask the server again, when somebody can see the answer. */
  refresh(): void {
    this._asker.wish();
  }

  /** Ask the server for what is shown, and show it. */
  protected abstract load(): Promise<void>;

  /** Say what is wrong, or that nothing is. A server that is away is said once, by the panel. */
  protected tell(problem: Problem | null): void {
    const told = problem && problem.status !== 0 ? problem : null;
    this._words.textContent = told ? [told.title, told.todo].filter(Boolean).join(' ') : '';
    this._said.setHidden(!told);
  }

  /**
   * Add what may scroll: all that it shows stands in children of its node, without a gap.
   *
   * Lists are scrolled row by row. Anything else has a label, is looked at as a whole, and scrolled by keyboard where it must be.
   */
  protected addPart(part: Widget, label = ''): void {
    [...part.node.children].forEach(each => this._sizes.observe(each));
    if (label) {
      this._labels.set(part.node, label);
    }
    this.addWidget(part);
  }

  protected button(icon: LabIcon, title: string, onClick: () => void): Button {
    const button = new Button({ icon, title, onClick });
    this.toolbar.addItem(title, button);
    return button;
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.refresh();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.update(); // only then are the parents attached too, and it is known whether this can be seen
  }

  protected onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    this.refresh();
  }

  protected onResize(message: Widget.ResizeMessage): void {
    super.onResize(message);
    this._reach();
  }

  private _reach(): void {
    this._labels.forEach((label, node) => reach(node, label));
  }

  private _onChanged(_: unknown, topic: Topic): void {
    if (this._topics.includes(topic)) {
      this.refresh();
    }
  }

  private async _ask(): Promise<number | void> {
    try {
      await this.load();
      this.tell(null);
    } catch (caught) {
      this.tell(asProblem(caught));
      return AGAIN;
    }
  }

  private _said: Widget;
  private _words = document.createElement('span');
  private _labels = new Map<HTMLElement, string>();
  private _grown = new Signal<this, void>(this);
  private _frame = 0;
  // in a frame of its own: who changes sizes while they are told is called a loop
  private _sizes = new ResizeObserver(() => {
    window.cancelAnimationFrame(this._frame);
    this._frame = window.requestAnimationFrame(() => {
      this._grown.emit();
      this._reach();
    });
  });
  private _asker = new Asker(
    () => this._ask(),
    () => this.isVisible
  );
}
