// The side panel: who and where one is, and the five sections. The server's events are heard only while it can be seen.
import { refreshIcon, SidePanel } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { IDisposable } from '@lumino/disposable';
import { Message, MessageLoop } from '@lumino/messaging';
import { AccordionPanel, Widget } from '@lumino/widgets';
import { asProblem, IAiplat, IJob, IStatus } from '../api';
import { openForm } from './actions';
import { AGAIN, Asker } from './asker';
import { Button } from './button';
import { Cluster } from './cluster';
import { Endpoints } from './endpoints';
import { divide } from './heights';
import { Models } from './models';
import { Pipelines } from './pipelines';
import { Runs } from './runs';
import { Section } from './section';

/** Milliseconds that a line may be down before it is said: most are back before anybody would have read it. */
const PATIENCE = 1500;

export class Panel extends SidePanel {
  constructor(
    private readonly _shared: IAiplat,
    private readonly _commands: CommandRegistry,
    shown: Record<string, boolean>
  ) {
    super();
    this.addClass('aip-Panel');
    this._where = new Widget();
    this._where.addClass('aip-Where');
    this._banner = new Widget();
    this._banner.addClass('aip-Banner');
    this._banner.node.setAttribute('role', 'status');
    this._banner.hide();
    this._names = document.createElement('span');
    this._names.className = 'aip-Where-names';
    this._where.node.append(this._names);
    const again = new Button({ icon: refreshIcon, title: 'Refresh all', onClick: () => this._refresh() });
    this._where.node.append(again.node);
    this.header.addWidget(this._where);
    this.header.addWidget(this._banner);
    this._sections = [
      new Models(_shared),
      new Endpoints(_shared, _commands),
      new Runs(_shared, _commands),
      new Pipelines(_shared, _commands),
      new Cluster(_shared)
    ];
    this._sections.forEach(section => {
      this.addWidget(section);
      section.grown.connect(() => this._settle());
    });
    this.configure(shown);
    const sections = this.content as AccordionPanel;
    sections.expansionToggled.connect(() => this._settle(true));
    sections.handleMoved.connect(() => (this._dragged = true));
    _shared.events.stateChanged.connect(this._state, this);
    _shared.events.job.connect(this._onJob, this);
  }

  /** Show or hide sections, by their names in the settings. */
  configure(shown: Record<string, boolean>): void {
    const names = ['models', 'endpoints', 'runs', 'pipelines', 'cluster'];
    const titles = (this.content as AccordionPanel).titles;
    this.widgets.forEach((section, index) => {
      const wanted = shown[names[index]] !== false;
      const title = titles[index];
      if (!wanted || title.hidden) {
        title.hidden = !wanted;
        section.setHidden(!wanted);
      }
    });
    this.content.fit();
    this._settle(true);
  }

  dispose(): void {
    window.clearTimeout(this._away);
    window.cancelAnimationFrame(this._later);
    this._listening?.dispose();
    this._greeting.dispose();
    this._shared.events.stateChanged.disconnect(this._state, this);
    this._shared.events.job.disconnect(this._onJob, this);
    super.dispose();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.update(); // only then are the parents attached too, and it is known whether this can be seen
  }

  protected onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    this._listen();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._listen();
  }

  protected onResize(message: Widget.ResizeMessage): void {
    super.onResize(message);
    this._settle(true);
  }

  protected onBeforeHide(message: Message): void {
    this._deaf();
    super.onBeforeHide(message);
  }

  protected onBeforeDetach(message: Message): void {
    this._deaf();
    super.onBeforeDetach(message);
  }

  /** The keyboard goes to the first list that is shown. */
  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    const list = this._sections.find(section => section.isVisible)?.node.querySelector<HTMLElement>('.aip-List');
    (list ?? this.node.querySelector<HTMLElement>('.jp-AccordionPanel-title'))?.focus();
  }

  /**
   * Share the height among the sections by what they hold, until somebody shares it otherwise.
   *
   * Unless all is anew, nothing moves as long as nothing scrolls that need not, nor under a mouse button that is down.
   */
  private _settle(anew = false): void {
    const sections = this.content as AccordionPanel;
    const open = this._sections.filter(section => !section.isHidden);
    const gaps = sections.spacing * (open.length - 1) + sections.titleSpace * this._sections.length;
    const space = sections.node.clientHeight - gaps;
    window.cancelAnimationFrame(this._later);
    if (this._dragged || !sections.isVisible || !open.length || space <= 0) {
      return;
    }
    if (!anew && sections.node.matches(':active')) {
      this._later = window.requestAnimationFrame(() => this._settle());
      return;
    }
    const wishes = open.map(section => section.wish);
    const heights = divide(space, wishes);
    const lacks = open.some((section, at) => section.node.clientHeight < Math.min(wishes[at].height, heights[at]) - 1);
    if (anew || lacks) {
      const all = this._sections.map(section => heights[open.indexOf(section)] ?? 0);
      sections.setRelativeSizes(all, false);
      MessageLoop.sendMessage(sections, Widget.Msg.FitRequest);
    }
  }

  private _listen(): void {
    if (this.isVisible && !this._listening) {
      this._listening = this._shared.events.listen();
      this._greeting.wish();
    }
  }

  private _deaf(): void {
    this._listening?.dispose();
    this._listening = null;
  }

  private _refresh(): void {
    this._shared.events.retry();
    this._greeting.wish();
    this._sections.forEach(section => section.refresh());
  }

  /** Who is acting, in which workspace; or what keeps the server from saying. */
  private async _greet(): Promise<number | void> {
    try {
      this._status = await this._shared.api.status();
    } catch (caught) {
      const problem = asProblem(caught);
      this._tell(problem.title, problem.todo);
      return AGAIN;
    }
    const { root, user, roles, problem, workspace, version } = this._status;
    const folder = root?.split('/').filter(Boolean).pop() ?? '';
    const place = document.createElement('span');
    place.className = 'aip-Where-place';
    place.textContent = folder;
    const person = document.createElement('span');
    person.className = 'aip-Where-person';
    person.textContent = [user, roles.length ? `(${roles.join(', ')})` : ''].filter(Boolean).join(' ');
    this._where.node.title = [root, `aiplat ${version}`].filter(Boolean).join('\n');
    this._names.replaceChildren(place, person);
    this.content.setHidden(!workspace);
    if (!workspace) {
      this._tell(problem?.title ?? 'There is no workspace here.', problem?.todo ?? 'aiplat init makes one.');
      this._offer('Make a workspace…', 'init');
    } else {
      this._tell(problem?.title ?? '', problem?.todo ?? '');
    }
  }

  private _tell(title: string, todo: string): void {
    const words = document.createElement('span');
    words.textContent = [title, todo].filter(Boolean).join(' ');
    this._banner.node.replaceChildren(words);
    if (this._banner.isHidden === !!title) {
      this._banner.setHidden(!title);
      // the sections have another height now
      MessageLoop.postMessage(this, Widget.ResizeMessage.UnknownSize);
    }
  }

  private _offer(text: string, verb: string): void {
    const button = document.createElement('button');
    button.className = 'jp-mod-styled jp-mod-accept';
    button.textContent = text;
    button.addEventListener('click', () => openForm(this._commands, verb));
    this._banner.node.append(button);
  }

  private _state(): void {
    const { state } = this._shared.events;
    window.clearTimeout(this._away);
    if (state === 'away') {
      this._away = window.setTimeout(() => {
        const { problem } = this._shared.events;
        this._tell(problem?.title ?? 'The Jupyter server does not answer.', problem?.todo ?? '');
      }, PATIENCE);
    } else if (state === 'open') {
      this._greeting.wish();
    }
  }

  private _onJob(_: unknown, job: IJob): void {
    if (job.verb === 'init' && job.state === 'done' && !this._status?.workspace) {
      this._greeting.wish();
    }
  }

  private _where: Widget;
  private _names: HTMLElement;
  private _sections: Section[];
  private _banner: Widget;
  private _status: IStatus | null = null;
  private _away = 0;
  private _dragged = false;
  private _later = 0;
  private _listening: IDisposable | null = null;
  private _greeting = new Asker(
    () => this._greet(),
    () => this.isVisible
  );
}
