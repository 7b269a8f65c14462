// The plugins of aiplat. Each asks for what every Jupyter application has; what only JupyterLab has is optional.
import { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { formPlugins } from './form/plugin';
import { connection } from './panel/connection';
import { panel } from './panel/plugin';
import { widgets } from './widgets';

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  connection as JupyterFrontEndPlugin<unknown>,
  panel,
  ...formPlugins,
  widgets as JupyterFrontEndPlugin<unknown>
];

export default plugins;
