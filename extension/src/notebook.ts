// Notebooks: the line of a form as a cell of theirs, and the button that runs them as pipelines.
import { JupyterFrontEnd } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { Problem } from './api';
import { CATEGORY } from './commands';
import { aiplatIcon } from './panel/icon';

export const PIPELINE = 'aiplat:run-as-pipeline';

/** Whether a notebook loads the magics anywhere. */
function loads(panel: NotebookPanel): boolean {
  const cells = panel.content.model?.cells;
  return cells ? Array.from(cells).some(cell => /%load_ext\s+aiplat\b/.test(cell.sharedModel.getSource())) : false;
}

/** A function that puts a line into the notebook that was looked at last, below the cell that is active there. */
export function inserter(app: JupyterFrontEnd, notebooks: INotebookTracker | null): (line: string) => Promise<void> {
  return async line => {
    const panel = notebooks?.currentWidget ?? null;
    if (!panel || panel.isDisposed) {
      throw new Problem(-1, 'No notebook is open.', 'Open one, and insert the line again.');
    }
    await panel.context.ready;
    const { content } = panel;
    const source = loads(panel) ? line : `%load_ext aiplat\n${line}`;
    const active = content.activeCell?.model;
    if (active && active.type === 'code' && !active.sharedModel.getSource().trim()) {
      active.sharedModel.setSource(source); // an empty cell waits for something
    } else {
      NotebookActions.insertBelow(content);
      if (content.activeCell?.model.type !== 'code') {
        NotebookActions.changeCellType(content, 'code');
      }
      content.activeCell?.model.sharedModel.setSource(source);
    }
    app.shell.activateById(panel.id);
  };
}

/** The command behind the button. The button itself is in schema/forms.json, where people can move or remove it. */
export function runAsPipeline(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker,
  palette: ICommandPalette | null,
  form: string
): void {
  const open = () => {
    const panel = notebooks.currentWidget;
    return panel && !panel.isDisposed ? panel : null;
  };
  app.commands.addCommand(PIPELINE, {
    label: 'Run as Pipeline',
    caption: 'Ask for the parameters of this notebook and run it from top to bottom in a kernel of its own',
    icon: aiplatIcon,
    describedBy: { args: { type: 'object', properties: {} } },
    isEnabled: () => open() !== null,
    execute: async () => {
      const panel = open();
      if (!panel) {
        return;
      }
      if (panel.context.model.dirty) {
        await panel.context.save(); // what runs is what is on disk
      }
      const notebook = app.serviceManager.contents.localPath(panel.context.path);
      return app.commands.execute(form, { verb: 'pipeline run', notebook, ref: panel.id, beside: true });
    }
  });
  notebooks.currentChanged.connect(() => app.commands.notifyCommandChanged(PIPELINE));
  palette?.addItem({ command: PIPELINE, category: CATEGORY });
}
