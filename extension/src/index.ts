// The plugins of aiplat. Each asks for what every Jupyter application has; what only JupyterLab has is optional.
import { JupyterFrontEndPlugin } from '@jupyterlab/application';

const plugins: JupyterFrontEndPlugin<unknown>[] = [];

export default plugins;
