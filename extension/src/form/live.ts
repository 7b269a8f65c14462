// What keeps an open executed copy up to date while its run goes on.
import type { ICodeCellModel } from '@jupyterlab/cells';
import type { ICodeCell, INotebookContent, IOutput } from '@jupyterlab/nbformat';
import type { INotebookModel, NotebookPanel } from '@jupyterlab/notebook';
import { ReactWidget } from '@jupyterlab/ui-components';
import { JSONExt } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';
import { createElement } from 'react';
import { asProblem, Events, IAiplat, IPipelineRunDetail, Problem } from '../api';
import { AGAIN, Asker } from '../panel/asker';
import { fetchCopy } from './copies';
import { CopyHeader } from './copyheader';

/** Bring an open copy to what is on disk: only outputs that differ are drawn anew, so that nobody's place is lost. */
export function bring(model: INotebookModel, content: INotebookContent): void {
  const same =
    model.cells.length === content.cells.length &&
    content.cells.every((cell, at) => cell.cell_type === model.cells.get(at).type);
  if (!same) {
    model.fromJSON(content);
  } else {
    content.cells.forEach((cell, at) => {
      if (cell.cell_type === 'code') {
        bringCell(model.cells.get(at) as ICodeCellModel, cell as ICodeCell);
      }
    });
  }
  model.dirty = false;
}

function bringCell(model: ICodeCellModel, cell: ICodeCell): void {
  const outputs = cell.outputs.map(plain);
  if (!JSONExt.deepEqual(model.outputs.toJSON().map(plain) as never, outputs as never)) {
    model.outputs.fromJSON(outputs);
  }
  if (model.executionCount !== cell.execution_count) {
    model.executionCount = cell.execution_count;
  }
}

/** Texts that the file keeps as lists of lines, in one piece. */
function plain(output: IOutput): IOutput {
  return Array.isArray(output.text) ? { ...output, text: output.text.join('') } : output;
}

/** Which cell of a notebook is its number-th cell of code that says something, as runs count them. */
export function cellAt(model: INotebookModel, number: number): number {
  let seen = 0;
  for (let at = 0; at < model.cells.length; at++) {
    const cell = model.cells.get(at);
    if (cell.type === 'code' && cell.sharedModel.getSource().trim() && ++seen === number) {
      return at;
    }
  }
  return -1;
}

class Header extends ReactWidget {
  constructor(private readonly _draw: () => JSX.Element) {
    super();
    this.addClass('aip-root');
    this.addClass('aip-copy-header');
  }

  render(): JSX.Element {
    return this._draw();
  }
}

/** What follows one open copy: a line of progress above it, outputs as they come, a star at the cell that runs. */
export class Live implements IDisposable {
  constructor(
    private readonly _aiplat: IAiplat,
    private readonly _panel: NotebookPanel,
    private readonly _at: { run: string; step: string }
  ) {
    this._header = new Header(() => this._above());
    _panel.contentHeader.addWidget(this._header);
    _aiplat.events.pipelineRun.connect(this._told, this);
    _aiplat.events.stateChanged.connect(this._stateChanged, this);
    this._listening = _aiplat.events.listen();
    _panel.disposed.connect(() => this.dispose());
    void _panel.context.ready.then(() => this._asker.wish());
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (!this._isDisposed) {
      this._isDisposed = true;
      this._asker.dispose();
      this._listening.dispose();
      Signal.clearData(this);
    }
  }

  private _told(_: Events, told: { id: string }): void {
    if (told.id === this._at.run) {
      this._asker.wish();
    }
  }

  private _stateChanged(events: Events): void {
    if (events.state === 'open') {
      this._asker.wish();
    } else if (events.state === 'away') {
      this._draw(events.problem);
    }
  }

  private async _look(): Promise<number | void> {
    const { run, step } = this._at;
    try {
      this._run = await this._aiplat.api.pipelineRun(run);
      // after the state: a copy that is asked for after the end is the last one
      const content = await fetchCopy(this._aiplat, run, step);
      if (this._isDisposed) {
        return;
      }
      bring(this._panel.context.model, content);
      this._star();
      this._draw(null);
      // events tell of cells; what a cell prints, and a copy that is written after its event, come without one
      return this._step?.state === 'running' ? AGAIN : undefined;
    } catch (caught) {
      this._draw(asProblem(caught));
      return AGAIN;
    }
  }

  private get _step() {
    return this._run?.steps.find(step => step.key === this._at.step);
  }

  private _star(): void {
    const step = this._step;
    const at = step?.state === 'running' && step.cell ? cellAt(this._panel.context.model, step.cell) : -1;
    this._panel.content.widgets.forEach((cell, index) => {
      const before = cell.hasClass('aip-running-cell');
      cell.toggleClass('aip-running-cell', index === at);
      if (index === at) {
        cell.setPrompt('*');
      } else if (before && cell.model.type === 'code') {
        cell.setPrompt(`${(cell.model as ICodeCellModel).executionCount ?? ''}`);
      }
    });
  }

  private _draw(problem: Problem | null): void {
    if (this._isDisposed) {
      return;
    }
    this._problem = problem;
    this._header.toggleClass('aip-mod-problem', problem !== null); // its place is of a fixed height
    this._panel.contentHeader.fit();
    this._header.update();
  }

  /** What stands above the copy. */
  private _above(): JSX.Element {
    const { run } = this._at;
    return createElement(CopyHeader, {
      run: this._run,
      step: this._step ?? null,
      problem: this._problem,
      steps: () => this._aiplat.open('pipeline-run', run),
      stop: () => this._aiplat.api.start('pipeline cancel', { run })
    });
  }

  private _header: Header;
  private _problem: Problem | null = null;
  private _run: IPipelineRunDetail | null = null;
  private _asker = new Asker(() => this._look());
  private _listening: IDisposable;
  private _isDisposed = false;
}
