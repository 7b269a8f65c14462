// The executed copies of notebooks as documents: a read-only drive over REST. What keeps an open copy up to date is in `live`.
//
// The copies are kept in .aiplat, which Jupyter's contents API hides, as it hides all folders that begin with a dot. They are records: nobody
// edits them, and no kernel belongs to them.
import { JupyterFrontEnd } from '@jupyterlab/application';
import { WidgetTracker } from '@jupyterlab/apputils';
import type { INotebookContent } from '@jupyterlab/nbformat';
import type { NotebookPanel, NotebookWidgetFactory } from '@jupyterlab/notebook';
import { Contents, ServerConnection } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';
import { IAiplat, Problem } from '../api';
import { aiplatIcon } from '../panel/icon';

/** The name of the drive: what stands before the colon in a copy's path. */
export const DRIVE = 'aiplat-run';

/** The path of the executed copy of a step; its last part is what the tab is called. */
export function pathOf(run: string, step: string, name: string): string {
  const stem = name.replace(/\.ipynb$/, '');
  return `${DRIVE}:${run}/${encodeURIComponent(step)}/${stem} (run ${run.slice(0, 8)}).ipynb`;
}

/** The run and the step that a path of the drive names. */
export function copyOf(path: string): { run: string; step: string } | null {
  const [drive, rest] = [path.slice(0, path.indexOf(':')), path.slice(path.indexOf(':') + 1)];
  const parts = rest.split('/').filter(part => part);
  return drive === DRIVE && parts.length === 3 ? { run: parts[0], step: decodeURIComponent(parts[1]) } : null;
}

/** The copy as it is on disk now. */
export async function fetchCopy(aiplat: IAiplat, run: string, step: string): Promise<INotebookContent> {
  const { api } = aiplat;
  const route = `pipelines/runs/${encodeURIComponent(run)}/copies/${encodeURIComponent(step)}`;
  let answer: Response;
  try {
    answer = await ServerConnection.makeRequest(api.url(route), { cache: 'no-store' }, api.settings);
  } catch {
    throw new Problem(0, 'The Jupyter server does not answer.', 'Start it again; this goes on by itself.');
  }
  const body: unknown = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const told = body as { title?: string; todo?: string };
    throw new Problem(answer.status, told.title ?? 'There is no executed copy yet.', told.todo ?? '');
  }
  const content = body as INotebookContent;
  // the engine's copies do not all say their language, and without a kernel nobody else does
  if (!content.metadata.language_info?.name) {
    content.metadata.language_info = { name: 'python', mimetype: 'text/x-python', file_extension: '.py' };
  }
  return content;
}

/** The drive. It holds one kind of file, `RUN/STEP/NAME.ipynb`, and nothing in it can be changed. */
export class CopyDrive implements Contents.IDrive {
  constructor(private readonly _aiplat: IAiplat) {}

  readonly name = DRIVE;
  readonly fileChanged: ISignal<Contents.IDrive, Contents.IChangedArgs> = new Signal<
    Contents.IDrive,
    Contents.IChangedArgs
  >(this);

  get serverSettings(): ServerConnection.ISettings {
    return this._aiplat.api.settings;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    Signal.clearData(this);
  }

  async get(path: string, options: Contents.IFetchOptions = {}): Promise<Contents.IModel> {
    const named = copyOf(`${DRIVE}:${path}`);
    const name = path.split('/').pop() ?? '';
    const model = { name, path, writable: false, created: '', last_modified: '', mimetype: '' };
    if (!named) {
      return { ...model, type: 'directory', format: 'json', content: [] };
    }
    const content = await fetchCopy(this._aiplat, named.run, named.step);
    const modified = new Date().toISOString(); // nobody saves here: it is compared with nothing
    const times = { created: modified, last_modified: modified };
    return options.content === false
      ? { ...model, ...times, type: 'notebook', format: null, content: null }
      : { ...model, ...times, type: 'notebook', format: 'json', content };
  }

  async getDownloadUrl(path: string): Promise<string> {
    const named = copyOf(`${DRIVE}:${path}`);
    return named ? this._aiplat.api.url(`pipelines/runs/${named.run}/copies/${encodeURIComponent(named.step)}`) : '';
  }

  newUntitled = refuse;
  delete = refuse;
  rename = refuse;
  save = refuse;
  copy = refuse;
  createCheckpoint = refuse;
  restoreCheckpoint = refuse;
  deleteCheckpoint = refuse;

  async listCheckpoints(): Promise<Contents.ICheckpointModel[]> {
    return [];
  }

  private _isDisposed = false;
}

function refuse(): Promise<never> {
  return Promise.reject(new Error('An executed copy is a record: it cannot be changed. Save it under another name.'));
}

/** What the tracker and the layout call such a tab, and what opens it. */
export const FACTORY = 'Executed copy';

/**
 * A way of its own to open notebooks from the drive: without a kernel, without a toolbar for editing, and unknown to what looks after notebooks
 * that are being worked on (it expects kernels). Made of the parts of the application's own notebooks.
 */
export async function addCopies(
  app: JupyterFrontEnd,
  aiplat: IAiplat,
  tracker: WidgetTracker<NotebookPanel>
): Promise<void> {
  const { docRegistry } = app;
  if (docRegistry.getWidgetFactory(FACTORY)) {
    return;
  }
  const [{ NotebookWidgetFactory }, { Live }] = await Promise.all([import('@jupyterlab/notebook'), import('./live')]);
  const parts = docRegistry.getWidgetFactory('Notebook') as unknown as NotebookWidgetFactory | undefined;
  if (!parts || docRegistry.getWidgetFactory(FACTORY)) {
    return;
  }
  const factory = new NotebookWidgetFactory({
    name: FACTORY,
    modelName: 'notebook',
    fileTypes: [], // it is asked for by name: nobody's own files open like this
    readOnly: true,
    preferKernel: false,
    canStartKernel: false,
    toolbarFactory: () => [],
    rendermime: parts.rendermime,
    contentFactory: parts.contentFactory,
    mimeTypeService: parts.mimeTypeService,
    editorConfig: parts.editorConfig,
    notebookConfig: parts.notebookConfig
  });
  factory.widgetCreated.connect((_, panel) => {
    const at = copyOf(panel.context.path);
    if (at) {
      panel.title.icon = aiplatIcon;
      new Live(aiplat, panel, at); // it goes when the panel goes
      panel.context.pathChanged.connect(() => void tracker.save(panel));
      void tracker.add(panel);
    }
  });
  docRegistry.addWidgetFactory(factory);
}
