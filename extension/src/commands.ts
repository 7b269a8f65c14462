// A command in the palette for every verb: it opens the verb's form.
import { JupyterFrontEnd } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IAiplat, IVerbLine } from './api';

export const CATEGORY = 'aiplat';

/** The command of a verb; also for shortcuts of one's own. */
export function commandOf(verb: string): string {
  return `aiplat:verb-${verb.replace(/\s+/g, '-')}`;
}

/** What the palette says: the verb as it is typed, and what it does, as far as its first halt. */
export function labelOf(verb: IVerbLine): string {
  const said = verb.help.split(/[;:.](?:\s|$)/)[0].trim();
  return `${verb.name}: ${said.charAt(0).toLowerCase()}${said.slice(1)}…`;
}

/** Ask the server which verbs there are, once the window stands: nothing of it may delay Lab's start. */
export function addVerbs(app: JupyterFrontEnd, aiplat: IAiplat, palette: ICommandPalette, form: string): void {
  const known = new Set<string>();
  const add = (verb: IVerbLine) => {
    const command = commandOf(verb.name);
    if (known.has(command)) {
      return;
    }
    known.add(command);
    app.commands.addCommand(command, {
      label: labelOf(verb),
      caption: verb.help,
      describedBy: { args: { type: 'object', properties: {} } },
      execute: () => app.commands.execute(form, { verb: verb.name })
    });
    palette.addItem({ command, category: CATEGORY });
  };
  const ask = () =>
    aiplat.api.verbs().then(
      verbs => {
        verbs.forEach(add);
        aiplat.events.stateChanged.disconnect(again);
      },
      () => undefined // a server that is not there yet: asked again when the stream is open
    );
  const again = () => void (aiplat.events.state === 'open' && ask());
  aiplat.events.stateChanged.connect(again);
  void app.restored.then(ask);
}
