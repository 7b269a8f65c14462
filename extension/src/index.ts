// The plugins of aiplat. Each asks for what every Jupyter application has; what only JupyterLab has is optional.
import { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { connection } from './panel/connection';

const plugins: JupyterFrontEndPlugin<unknown>[] = [connection as JupyterFrontEndPlugin<unknown>];

export default plugins;
