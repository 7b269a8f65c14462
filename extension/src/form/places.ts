// Where tabs go: the main area where there is one for tabs, the side of the page in Notebook 7, which shows one document per page.
import { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import { DockLayout, Widget } from '@lumino/widgets';

/** Show a widget; `ref` is the tab to which `mode` is meant. */
export function place(
  app: JupyterFrontEnd,
  lab: ILabShell | null,
  widget: Widget,
  ref?: string,
  mode: DockLayout.InsertMode = 'tab-after'
): void {
  if (!widget.isAttached) {
    if (lab) {
      app.shell.add(widget, 'main', ref ? { ref, mode } : {});
    } else {
      app.shell.add(widget, 'right', { rank: 0 });
    }
  }
  app.shell.activateById(widget.id);
}
