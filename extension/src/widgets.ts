// Voila: a widget is shown although its model came while the page stood still.
import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { isVoila } from './panel/plugin';

/** What is used here of ipywidgets' manager. */
interface IManager {
  get_model(id: string): Promise<unknown>;
  has_model(id: string): boolean;
}

/** Voila's application has the manager, later. */
interface IVoila {
  widgetManagerPromise?: { promise: Promise<IManager | null> };
}

/**
 * For two seconds, ipywidgets' manager looks ten times a second whether it has a model, and then it gives up without a last look.
 * A page that draws large outputs stands still meanwhile, and may read the models in the same breath: the next look is the last one,
 * too late, "model not found", and as all models have been restored, nobody asks again. So here is the last look.
 */
export function lastLook(manager: IManager): void {
  const look = manager.get_model.bind(manager);
  manager.get_model = async id => {
    try {
      return await look(id);
    } catch (error) {
      if (manager.has_model(id)) {
        return look(id);
      }
      throw error;
    }
  };
}

export const widgets: JupyterFrontEndPlugin<void> = {
  id: 'aiplat:widgets',
  description: 'Widgets in Voila whose models came while the page stood still.',
  autoStart: true,
  activate: (app: JupyterFrontEnd) => {
    if (isVoila(app)) {
      void (app as unknown as IVoila).widgetManagerPromise?.promise.then(manager => manager && lastLook(manager));
    }
  }
};
