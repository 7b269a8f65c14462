// One client and one stream of events for all of aiplat's plugins.
import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Api, Events, IAiplat, ViewKind } from '../api';

/** Opens a thing in a tab: `{ kind, id }`. Registered by the detail plugin. */
export const OPEN = 'aiplat:open';

export const connection: JupyterFrontEndPlugin<IAiplat> = {
  id: 'aiplat:connection',
  description: 'The REST routes of aiplat and the events of its server.',
  autoStart: true,
  provides: IAiplat,
  activate: (app: JupyterFrontEnd): IAiplat => {
    const api = new Api(app.serviceManager.serverSettings);
    const open = (kind: ViewKind, id: string) => void app.commands.execute(OPEN, { kind, id });
    return { api, events: new Events(api), open };
  }
};
