// Where things go. Tabs: the main area where there is one for tabs, the side of the page in Notebook 7, which shows one document per page.
import { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import { DockLayout, Widget } from '@lumino/widgets';
import { RefObject, useLayoutEffect, useRef } from 'react';

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

/**
 * For a button that goes away when it has done its work: whoever pressed it by keyboard stands in the same tab afterwards, not at the top of the
 * page. A disabled button is left by the keyboard in some browsers at once: hence the page itself counts too, as long as nobody went elsewhere.
 */
export function useSuccessor(): RefObject<HTMLButtonElement> {
  const button = useRef<HTMLButtonElement>(null);
  useLayoutEffect(() => {
    const node = button.current;
    const tab = node?.closest<HTMLElement>('.aip-tab');
    const next = tab ?? (node?.nextElementSibling as HTMLElement | null | undefined);
    let pressed = false;
    const press = () => void (pressed = true);
    node?.addEventListener('click', press);
    return () => {
      node?.removeEventListener('click', press);
      const at = document.activeElement;
      if (at === node || (pressed && at === document.body)) {
        next?.focus();
      }
    };
  }, []);
  return button;
}
