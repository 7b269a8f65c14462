// What JupyterLab and Notebook 7 are told at their start: commands, an icon at the left, a card. All that is heavier comes
// with the first look at it, so that neither's start-up pays for it.
import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Clipboard, ICommandPalette, WidgetTracker } from '@jupyterlab/apputils';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { Message } from '@lumino/messaging';
import { Panel, Widget } from '@lumino/widgets';
import { IAiplat, ViewKind } from '../api';
import { ACTIONS, openForm } from './actions';
import { OPEN } from './connection';
import type { Dashboards } from './dashboards';
import type { Detail } from './detail';
import { aiplatIcon } from './icon';
import type { Panel as Content } from './panel';

const CATEGORY = 'aiplat';

namespace Commands {
  export const show = 'aiplat:show-panel';
  export const openRow = 'aiplat:open-row';
  export const verbRow = 'aiplat:verb-of-row';
  export const copyRow = 'aiplat:copy-row';
  export const dashboards = 'aiplat:dashboards';
}

/** Voila renders pages for readers; it has no place for panels. */
export function isVoila(app: JupyterFrontEnd): boolean {
  return app.name === 'Voila';
}

/** The place of the panel at the left; what it holds is loaded when it is first seen. */
class Place extends Panel {
  constructor(private readonly _make: () => Promise<Content>) {
    super();
    this.id = 'aiplat-panel';
    this.addClass('aip-Place');
    this.title.icon = aiplatIcon;
    this.title.caption = 'aiplat: models, endpoints, runs, pipelines, cluster';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'aiplat');
  }

  content: Content | null = null;

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    void this._fill();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.update(); // only then are the parents attached too, and it is known whether this can be seen
  }

  protected onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    if (this.isVisible) {
      void this._fill();
    }
  }

  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    void this._fill().then(content => content.activate());
  }

  private _fill(): Promise<Content> {
    this._filling ??= this._make().then(content => {
      this.content = content;
      this.addWidget(content);
      return content;
    });
    return this._filling;
  }

  private _filling: Promise<Content> | null = null;
}

interface IOptions {
  models: boolean;
  endpoints: boolean;
  runs: boolean;
  pipelines: boolean;
  cluster: boolean;
  statusBar: boolean;
  incidents: boolean;
  desktop: boolean;
}

const DEFAULTS: IOptions = {
  models: true,
  endpoints: true,
  runs: true,
  pipelines: true,
  cluster: true,
  statusBar: false,
  incidents: true,
  desktop: false
};

export const panel: JupyterFrontEndPlugin<void> = {
  id: 'aiplat:plugin',
  description: 'The side panel of aiplat: models, endpoints, runs, pipelines and the cluster; a tab for each of them.',
  autoStart: true,
  requires: [IAiplat],
  optional: [ILabShell, ILayoutRestorer, ICommandPalette, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    shared: IAiplat,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    registry: ISettingRegistry | null
  ): void => {
    if (isVoila(app)) {
      return;
    }
    let options: Record<string, boolean> & IOptions = { ...DEFAULTS };
    const place = new Place(async () => new (await import('./panel')).Panel(shared, app.commands, options));
    app.shell.add(place, 'left', { rank: 450, type: 'aiplat' });
    restorer?.add(place, 'aiplat-panel');

    addDetails(app, shared, labShell, restorer);
    addDashboards(app, shared, labShell);
    addRowCommands(app);
    app.commands.addCommand(Commands.show, {
      label: 'Show the Panel of aiplat',
      icon: aiplatIcon,
      execute: () => app.shell.activateById(place.id)
    });
    palette?.addItem({ command: Commands.show, category: CATEGORY });
    palette?.addItem({ command: Commands.dashboards, category: CATEGORY });

    // what goes wrong is told once the window stands: nothing of it may delay Lab's start
    let incidents: ReturnType<typeof addIncidents> | null = null;
    const tell = () => {
      if (options.incidents || incidents) {
        incidents ??= addIncidents(app, shared);
        void incidents.then(each => each.configure(options.incidents, options.desktop));
      }
    };

    if (!registry) {
      tell();
    } else {
      void registry
        .load(panel.id)
        .then(settings => {
          let statusItem: ReturnType<typeof addStatus> | null = null;
          const take = () => {
            options = { ...DEFAULTS, ...(settings.composite as Partial<IOptions>) };
            place.content?.configure(options);
            if (labShell && (options.statusBar || statusItem)) {
              statusItem ??= addStatus(app, shared);
              void statusItem.then(item => item.configure(options.statusBar));
            }
            tell();
          };
          settings.changed.connect(take);
          take();
        })
        .catch(reason => console.warn('aiplat: its settings cannot be read', reason));
    }
  }
};

/** Tabs for runs, models, versions …: `aiplat:open` with `{ kind, id }`. */
function addDetails(
  app: JupyterFrontEnd,
  shared: IAiplat,
  labShell: ILabShell | null,
  restorer: ILayoutRestorer | null
): void {
  const tracker = new WidgetTracker<Detail>({ namespace: 'aiplat-detail' });
  const idOf = (kind: string, id: string) => `aiplat-detail-${kind}-${id}`;
  app.commands.addCommand(OPEN, {
    label: 'Open',
    execute: async args => {
      const { kind, id } = args as { kind: ViewKind; id: string };
      const { Detail, KINDS } = await import('./detail');
      if (!KINDS.includes(kind) || typeof id !== 'string') {
        return;
      }
      // a tab that is open already comes to the front; two calls at once make one
      const found = tracker.find(each => each.id === idOf(kind, id)) ?? new Detail(shared, app.commands, kind, id);
      if (!tracker.has(found)) {
        await tracker.add(found);
      }
      show(app, labShell, found);
    }
  });
  void restorer?.restore(tracker, {
    command: OPEN,
    args: each => ({ kind: each.kind, id: each.thing }),
    name: each => `${each.kind}:${each.thing}`
  });
}

/** Notebook 7 has one document in its main area and keeps it: tabs go below. */
function show(app: JupyterFrontEnd, labShell: ILabShell | null, widget: Widget): void {
  if (!widget.isAttached) {
    app.shell.add(widget, labShell ? 'main' : 'down', { type: 'aiplat' });
  }
  app.shell.activateById(widget.id);
}

function addDashboards(app: JupyterFrontEnd, shared: IAiplat, labShell: ILabShell | null): void {
  let open: Dashboards | null = null;
  app.commands.addCommand(Commands.dashboards, {
    label: args => (args.isLauncher ? 'Dashboards' : 'Open the Dashboards of aiplat'),
    caption: 'Portfolio, models, production and operations as pages, for people who open no notebook',
    icon: aiplatIcon,
    execute: async () => {
      if (!open || open.isDisposed) {
        open = new (await import('./dashboards')).Dashboards(shared);
      }
      show(app, labShell, open);
    }
  });
  if (labShell) {
    // only JupyterLab has a launcher, and Voila not even its module
    void import('@jupyterlab/launcher').then(async ({ ILauncher }) => {
      const launcher = await app.resolveOptionalService(ILauncher);
      launcher?.add({ command: Commands.dashboards, args: { isLauncher: true }, category: CATEGORY, rank: 1 });
    });
  }
}

/** What the context menu of a row offers: its tab, its verbs, its name. */
function addRowCommands(app: JupyterFrontEnd): void {
  const row = () => app.contextMenuHitTest(node => node.classList.contains('aip-Row'))?.dataset ?? null;
  app.commands.addCommand(Commands.openRow, {
    label: 'Open',
    execute: () => {
      const hit = row();
      return hit ? app.commands.execute(OPEN, { kind: hit.kind ?? '', id: hit.id ?? '' }) : undefined;
    }
  });
  app.commands.addCommand(Commands.verbRow, {
    label: args => String(args.label ?? ''),
    execute: args => {
      const id = row()?.id;
      return id ? openForm(app.commands, String(args.verb), { [String(args.field)]: id }) : undefined;
    }
  });
  app.commands.addCommand(Commands.copyRow, {
    label: 'Copy Name',
    execute: () => Clipboard.copyToSystem(row()?.id ?? '')
  });
  const menu = app.contextMenu;
  menu.addItem({ command: Commands.openRow, selector: '.aip-Row', rank: 1 });
  for (const [kind, actions] of Object.entries(ACTIONS)) {
    const selector = `.aip-Row[data-kind="${kind}"]`;
    menu.addItem({ type: 'separator', selector, rank: 2 });
    actions.forEach(({ label, verb, field }, i) =>
      menu.addItem({ command: Commands.verbRow, args: { label, verb, field }, selector, rank: 3 + i })
    );
  }
  menu.addItem({ type: 'separator', selector: '.aip-Row', rank: 20 });
  menu.addItem({ command: Commands.copyRow, selector: '.aip-Row', rank: 21 });
}

/** Notifications of what failed, is late or works again. */
async function addIncidents(app: JupyterFrontEnd, shared: IAiplat) {
  await app.restored;
  const { Incidents } = await import('./incidents');
  return new Incidents(shared.api, {
    open: run => void app.commands.execute(OPEN, { kind: 'pipeline-run', id: run }),
    resume: run => openForm(app.commands, 'pipeline resume', { run }),
    copy: text => Clipboard.copyToSystem(text)
  });
}

async function addStatus(app: JupyterFrontEnd, shared: IAiplat) {
  const [{ IStatusBar }, { StatusItem }] = await Promise.all([import('@jupyterlab/statusbar'), import('./status')]);
  const bar = await app.resolveOptionalService(IStatusBar);
  const item = new StatusItem(shared, () => void app.commands.execute(Commands.show));
  bar?.registerStatusItem('aiplat:running', {
    item,
    align: 'left',
    rank: 20,
    isActive: () => item.active,
    activeStateChanged: item.activeChanged
  });
  return item;
}
