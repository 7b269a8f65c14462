// The executed copies of notebooks as documents: a read-only drive over REST. What keeps an open copy up to date is in `live`.
//
// The copies are kept in .aiplat, which Jupyter's contents API hides, as it hides all folders that begin with a dot. They are records: nobody
// edits them, and no kernel belongs to them.
import type { DocumentRegistry } from '@jupyterlab/docregistry';
import type { INotebookContent } from '@jupyterlab/nbformat';
import type { INotebookModel, NotebookPanel } from '@jupyterlab/notebook';
import { Contents, ServerConnection } from '@jupyterlab/services';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { IAiplat, Problem } from '../api';

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
  return body as INotebookContent;
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

/** Every notebook that is opened from the drive follows its run, however it was opened: by hand, by a link, after a reload. */
export class LiveCopies implements DocumentRegistry.IWidgetExtension<NotebookPanel, INotebookModel> {
  constructor(private readonly _aiplat: IAiplat) {}

  createNew(panel: NotebookPanel, context: DocumentRegistry.IContext<INotebookModel>): IDisposable {
    const nothing = new DisposableDelegate(() => undefined);
    const at = copyOf(context.path);
    if (!at) {
      return nothing;
    }
    const { sessionContext } = context;
    sessionContext.kernelPreference = { ...sessionContext.kernelPreference, shouldStart: false, canStart: false };
    void import('./live').then(({ Live }) => {
      if (!panel.isDisposed) {
        new Live(this._aiplat, panel, context, at); // it goes when the panel goes
      }
    });
    return nothing;
  }
}
