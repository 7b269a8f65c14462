// A tab for one thing: the HTML that the thing shows in a notebook, kept up to date while it can be seen.
import { Clipboard, MainAreaWidget } from '@jupyterlab/apputils';
import { copyIcon, refreshIcon, Toolbar } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { IDisposable } from '@lumino/disposable';
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import { asProblem, IAiplat, IPipelineRun, IView, Problem, Topic, ViewKind } from '../api';
import { ACTIONS, openForm } from './actions';
import { Asker } from './asker';
import { Button } from './button';
import { aiplatIcon } from './icon';
import { short } from './list';

const TOPICS: Record<ViewKind, readonly Topic[]> = {
  run: ['runs'],
  model: ['models', 'ledger'],
  version: ['models', 'ledger'],
  gate: ['models', 'ledger'],
  endpoint: ['endpoints', 'ledger'],
  stream: ['endpoints', 'ledger'],
  'pipeline-run': ['pipelines'],
  pipeline: ['pipelines', 'schedules'],
  schedule: ['schedules', 'pipelines'],
  job: ['jobs'],
  cluster: ['cluster']
};

export const KINDS = Object.keys(TOPICS) as ViewKind[];

/** How many letters of a name stand on its tab. */
const LONGEST = 48;

/** Server HTML as nodes. core/show has escaped every text in it; what could act is taken out all the same. */
export function safeNodes(html: string): DocumentFragment {
  const parsed = new DOMParser().parseFromString(html, 'text/html');
  parsed.querySelectorAll('script, iframe, object, embed, form, base, meta, link').forEach(node => node.remove());
  for (const node of parsed.querySelectorAll('*')) {
    for (const { name, value } of [...node.attributes]) {
      if (
        /^on/i.test(name) ||
        (/^(href|src|action|xlink:href)$/i.test(name) && /^\s*(javascript|vbscript|data):/i.test(value))
      ) {
        node.removeAttribute(name);
      }
    }
  }
  const nodes = document.createDocumentFragment();
  nodes.append(...parsed.body.childNodes);
  return nodes;
}

class DetailView extends Widget {
  constructor(
    private readonly _shared: IAiplat,
    readonly kind: ViewKind,
    readonly thing: string
  ) {
    super();
    this.addClass('aip-Detail');
    this.node.tabIndex = 0;
    this._problem = document.createElement('p');
    this._problem.className = 'aip-Detail-problem';
    this._problem.setAttribute('role', 'status');
    this._problem.hidden = true;
    this._host = document.createElement('div');
    this._host.className = 'aip-Detail-host';
    this._host.setAttribute('aria-busy', 'true');
    this.node.append(this._problem, this._host);
    _shared.events.changed.connect(this._onChanged, this);
    _shared.events.pipelineRun.connect(this._onRun, this);
  }

  /** Told when there is something to see: its title and line. */
  onView: (view: IView) => void = () => undefined;

  dispose(): void {
    this._asker.dispose();
    this._listening?.dispose();
    this._shared.events.changed.disconnect(this._onChanged, this);
    this._shared.events.pipelineRun.disconnect(this._onRun, this);
    super.dispose();
  }

  refresh(): void {
    this._asker.wish();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.update();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.update(); // only then are the parents attached too, and it is known whether this can be seen
  }

  protected onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    if (this.isVisible) {
      this._listening ??= this._shared.events.listen();
      this.refresh();
    }
  }

  protected onBeforeHide(message: Message): void {
    this._deaf();
    super.onBeforeHide(message);
  }

  protected onBeforeDetach(message: Message): void {
    this._deaf();
    super.onBeforeDetach(message);
  }

  private _deaf(): void {
    this._listening?.dispose();
    this._listening = null;
  }

  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.node.focus({ preventScroll: true });
  }

  private async _load(): Promise<void> {
    try {
      this._draw(await this._shared.api.view(this.kind, this.thing));
      this._say(null);
    } catch (caught) {
      this._say(asProblem(caught));
    }
    this._host.setAttribute('aria-busy', 'false');
  }

  private _draw(view: IView): void {
    if (view.html !== this._html) {
      this._html = view.html;
      const { scrollTop, scrollLeft } = this.node;
      this._host.replaceChildren(safeNodes(view.html));
      this.node.scrollTo(scrollLeft, scrollTop);
    }
    this.onView(view);
  }

  private _say(problem: Problem | null): void {
    this._problem.textContent = problem ? [problem.title, problem.todo].filter(Boolean).join(' ') : '';
    this._problem.hidden = !problem;
  }

  private _onChanged(_: unknown, topic: Topic): void {
    if (TOPICS[this.kind].includes(topic)) {
      this.refresh();
    }
  }

  private _onRun(_: unknown, run: IPipelineRun): void {
    if (this.kind === 'pipeline-run' && run.id === this.thing) {
      this.refresh();
    }
  }

  private _host: HTMLElement;
  private _problem: HTMLElement;
  private _html: string | null = null;
  private _asker = new Asker(
    () => this._load(),
    () => this.isVisible,
    800
  );
  private _listening: IDisposable | null = null;
}

/** The tab: what the thing shows, and above it the line that shows the same in a notebook. */
export class Detail extends MainAreaWidget<DetailView> {
  constructor(shared: IAiplat, commands: CommandRegistry, kind: ViewKind, thing: string) {
    super({ content: new DetailView(shared, kind, thing) });
    this.id = `aiplat-detail-${kind}-${thing}`;
    this.addClass('aip-DetailTab');
    this.title.label = thing.length > 24 ? `${thing.slice(0, 8)}…` : thing; // until the thing has said its name
    this.title.icon = aiplatIcon;
    this.title.closable = true;
    this.title.caption = short(`${kind.replace('-', ' ')} ${thing}`);
    this.toolbar.addItem(
      'refresh',
      new Button({ icon: refreshIcon, title: 'Refresh', onClick: () => this.content.refresh() })
    );
    for (const { label, verb, field } of ACTIONS[kind] ?? []) {
      const onClick = () => openForm(commands, verb, { [field]: thing });
      this.toolbar.addItem(verb, new Button({ label, title: `aiplat ${verb}`, onClick }));
    }
    const line = new Widget({ node: document.createElement('code') });
    line.addClass('aip-Detail-line');
    const copy = new Button({
      icon: copyIcon,
      title: 'Copy the line that shows this in a notebook',
      onClick: () => Clipboard.copyToSystem(line.node.textContent ?? '')
    });
    this.toolbar.addItem('spacer', Toolbar.createSpacerItem());
    this.toolbar.addItem('line', line);
    this.toolbar.addItem('copy', copy);
    line.hide();
    copy.hide();
    this.content.onView = view => {
      // who is only an id may have a name, and then it stands at the top
      const heading =
        view.title === thing && thing.length > 24 ? this.content.node.querySelector('h2, h3')?.textContent : null;
      const name = heading || view.title;
      // Lab's status bar says it in full, and has other things to say
      this.title.label = name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
      this.title.caption = short(`${kind.replace('-', ' ')} ${name}`);
      line.node.textContent = view.line;
      line.node.title = view.line;
      line.setHidden(!view.line);
      copy.setHidden(!view.line);
    };
  }

  get kind(): ViewKind {
    return this.content.kind;
  }

  get thing(): string {
    return this.content.thing;
  }
}
