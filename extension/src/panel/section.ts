// One section of the side panel: asks the server when it is seen and something it shows has changed, and never otherwise.
import { LabIcon, PanelWithToolbar } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import { asProblem, IAiplat, Problem, Topic } from '../api';
import { Asker } from './asker';
import { Button } from './button';

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
    this._said.hide();
    this.addWidget(this._said);
    shared.events.changed.connect(this._onChanged, this);
  }

  dispose(): void {
    this._asker.dispose();
    this.shared.events.changed.disconnect(this._onChanged, this);
    super.dispose();
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
    this._said.node.textContent = told ? [told.title, told.todo].filter(Boolean).join(' ') : '';
    this._said.setHidden(!told);
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

  private _onChanged(_: unknown, topic: Topic): void {
    if (this._topics.includes(topic)) {
      this.refresh();
    }
  }

  private async _ask(): Promise<void> {
    try {
      await this.load();
      this.tell(null);
    } catch (caught) {
      this.tell(asProblem(caught));
    }
  }

  private _said: Widget;
  private _asker = new Asker(
    () => this._ask(),
    () => this.isVisible
  );
}
