// A toolbar's button as a plain <button>. Lab's own is a custom element with an `aria-pressed` that such an element may not
// have (axe-core: aria-allowed-attr, critical), and each is a React root.
import { LabIcon } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';

export class Button extends Widget {
  constructor(options: { icon?: LabIcon; label?: string; title: string; onClick: () => void }) {
    super();
    this.addClass('jp-ToolbarButton');
    this._button = document.createElement('button');
    this._button.type = 'button';
    this._button.className = 'aip-Button';
    this._button.title = options.title;
    if (options.icon) {
      this._button.setAttribute('aria-label', options.title);
      options.icon.element({ container: this._button, tag: 'span' });
    }
    this._button.append(options.label ?? '');
    this._button.addEventListener('click', options.onClick);
    this.node.append(this._button);
  }

  set enabled(value: boolean) {
    this._button.disabled = !value;
  }

  private _button: HTMLButtonElement;
}
