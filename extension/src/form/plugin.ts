// The plugins of this part: forms of verbs and their jobs, the palette, notebooks as pipelines.
import { ILabShell, ILayoutRestorer, IRouter, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { JSONExt, ReadonlyPartialJSONObject, Token } from '@lumino/coreutils';
import { IAiplat, IJob } from '../api';
import { addVerbs } from '../commands';
import { inserter, runAsPipeline } from '../notebook';
import { addCopies, CopyDrive, copyOf, FACTORY, pathOf } from './copies';
import { place } from './places';
import type { FormContent, IFormArgs, IJobArgs, JobContent } from './tabs';

export const FORM = 'aiplat:form';
export const JOB = 'aiplat:job';
export const COPY = 'aiplat:copy';

/** What other plugins of this part need of the forms: that they are there. */
const IForms = new Token<null>('aiplat:IForms', 'The commands for forms, jobs and executed copies.');

type FormTab = MainAreaWidget<FormContent>;
type JobTab = MainAreaWidget<JobContent>;

let forms = 0;

/** What draws the tabs is loaded when the first one opens: it has no part in Lab's start. */
const drawn = () => import('./tabs');

/** Arguments as the layout keeps them. */
function kept(args: IFormArgs | IJobArgs): ReadonlyPartialJSONObject {
  return args as unknown as ReadonlyPartialJSONObject;
}

/** The commands that open tabs. They work in every Jupyter application that has a shell. */
function addTabs(
  app: JupyterFrontEnd,
  aiplat: IAiplat,
  lab: ILabShell | null,
  restorer: ILayoutRestorer | null,
  notebooks: INotebookTracker | null
): void {
  const formTabs = new WidgetTracker<FormTab>({ namespace: 'aiplat-forms' });
  const jobTabs = new WidgetTracker<JobTab>({ namespace: 'aiplat-jobs' });
  const copyTabs = new WidgetTracker<NotebookPanel>({ namespace: 'aiplat-copies' });
  const insert = inserter(app, notebooks);

  /** A job's tab takes the place of the form of a notebook, and stands behind the form of a verb, which stays for another turn. */
  const started = (from: FormTab, job: IJob, form: IFormArgs): void => {
    const copy = form.notebook !== undefined;
    void openJob({ id: job.id, form, copy }, from.id).then(() => copy && from.close());
  };
  const openForm = async (args: IFormArgs, ref?: string, beside = false): Promise<FormTab> => {
    const [{ FormContent, tabOf }, { notebookSource, verbSource }] = await Promise.all([drawn(), import('./sources')]);
    const load = () =>
      args.notebook === undefined ? verbSource(aiplat, args.verb, insert) : notebookSource(aiplat, args.notebook);
    args.key ??= `${Date.now().toString(36)}-${(forms += 1)}`; // the layout finds the tab by it after a reload
    const content = new FormContent(args, load, (job, form) => started(tab, job, form));
    const tab: FormTab = tabOf(content, `aiplat-form-${args.key}`);
    content.argsChanged.connect(() => void formTabs.save(tab));
    void formTabs.add(tab);
    place(app, lab, tab, ref, beside ? 'split-right' : 'tab-after');
    return tab;
  };
  const openJob = async (args: IJobArgs, ref?: string): Promise<JobTab> => {
    const { JobContent, tabOf } = await drawn();
    const before = jobTabs.find(each => each.content.args.id === args.id);
    if (before) {
      app.shell.activateById(before.id);
      return before;
    }
    const content = new JobContent(args, aiplat, {
      again: form => {
        // the form that started the job may still be there, and as it was then
        const still = formTabs.find(
          ({ content: { args } }) => args.key === form.key && JSONExt.deepEqual(kept(args), kept(form))
        );
        if (still) {
          app.shell.activateById(still.id);
        } else {
          void openForm({ ...form, key: undefined }, tab.id);
        }
      },
      openCopy: (run, step, name) => void app.commands.execute(COPY, { run, step, name, ref: tab.id })
    });
    const tab: JobTab = tabOf(content, `aiplat-job-${args.id}`);
    content.argsChanged.connect(() => void jobTabs.save(tab));
    void jobTabs.add(tab);
    place(app, lab, tab, ref);
    return tab;
  };

  app.commands.addCommand(FORM, {
    label: 'Form of a verb of aiplat',
    describedBy: { args: { type: 'object', required: ['verb'], properties: { verb: { type: 'string' } } } },
    execute: args => {
      const { key, verb, notebook, draft, ref, beside } = args as unknown as IFormArgs & {
        ref?: string;
        beside?: boolean;
      };
      return openForm({ key, verb, notebook, draft }, ref, beside);
    }
  });
  app.commands.addCommand(JOB, {
    label: 'Job of aiplat',
    describedBy: { args: { type: 'object', required: ['id'], properties: { id: { type: 'string' } } } },
    execute: args => {
      const { id, form, copy } = args as unknown as IJobArgs;
      return openJob({ id, form, copy });
    }
  });
  app.commands.addCommand(COPY, {
    label: 'Executed copy of a step',
    describedBy: {
      args: {
        type: 'object',
        required: ['run', 'step'],
        properties: { run: { type: 'string' }, step: { type: 'string' }, name: { type: 'string' } }
      }
    },
    execute: async args => {
      const { run, step, name, ref } = args as { run: string; step: string; name?: string; ref?: string };
      const path = pathOf(run, step, name ?? `${step}.ipynb`);
      const options = ref && lab ? { ref, mode: 'tab-after' } : {};
      await addCopies(app, aiplat, copyTabs);
      return app.commands.execute('docmanager:open', { path, factory: FACTORY, options });
    }
  });
  if (restorer) {
    void restorer.restore(copyTabs, {
      command: COPY,
      args: panel => {
        const name =
          panel.context.path
            .split('/')
            .pop()
            ?.replace(/ \(run \w+\)\.ipynb$/, '.ipynb') ?? '';
        return { ...copyOf(panel.context.path), name };
      },
      name: panel => panel.context.path
    });
    void restorer.restore(formTabs, {
      command: FORM,
      args: tab => kept(tab.content.args),
      name: tab => tab.content.args.key ?? tab.id
    });
    void restorer.restore(jobTabs, {
      command: JOB,
      args: tab => kept(tab.content.args),
      name: tab => tab.content.args.id
    });
  }
}

/**
 * Keep executed copies out of the page's address: Lab would look for the named file in the file browser at the next reload, which knows no
 * other drive, and say in a dialog that it cannot open it. The layout brings copies back, not the address.
 */
function forgetCopies(lab: ILabShell, router: IRouter): void {
  const clean = () => {
    if (copyOf(PageConfig.getOption('treePath'))) {
      PageConfig.setOption('treePath', '');
      router.navigate(URLExt.parse(PageConfig.getUrl({ treePath: '' })).pathname, { skipRouting: true });
    }
  };
  clean();
  // Lab itself listens too, and may have come later: its turn is over when this one comes
  lab.currentPathChanged.connect(() => void Promise.resolve().then(clean));
}

const tabs: JupyterFrontEndPlugin<null> = {
  id: 'aiplat:tabs',
  description: 'Forms of verbs, jobs that they start, and executed copies of notebooks.',
  autoStart: true,
  provides: IForms,
  requires: [IAiplat],
  optional: [ILabShell, ILayoutRestorer, INotebookTracker, IRouter],
  activate: (
    app: JupyterFrontEnd,
    aiplat: IAiplat,
    lab: ILabShell | null,
    restorer: ILayoutRestorer | null,
    notebooks: INotebookTracker | null,
    router: IRouter | null
  ): null => {
    addTabs(app, aiplat, lab, restorer, notebooks);
    if (lab && router) {
      void app.restored.then(() => forgetCopies(lab, router));
    }
    app.serviceManager.contents.addDrive(new CopyDrive(aiplat));
    return null;
  }
};

const palette: JupyterFrontEndPlugin<void> = {
  id: 'aiplat:palette',
  description: 'A command in the palette for every verb.',
  autoStart: true,
  requires: [IForms, IAiplat],
  optional: [ICommandPalette],
  activate: (app: JupyterFrontEnd, _forms: null, aiplat: IAiplat, commands: ICommandPalette | null): void => {
    if (commands) {
      addVerbs(app, aiplat, commands, FORM);
    }
  }
};

const notebook: JupyterFrontEndPlugin<void> = {
  id: 'aiplat:forms',
  description: 'The button "Run as pipeline" in the toolbar of notebooks.',
  autoStart: true,
  requires: [IForms],
  optional: [INotebookTracker, ICommandPalette], // Voila has neither
  activate: (
    app: JupyterFrontEnd,
    _forms: null,
    notebooks: INotebookTracker | null,
    commands: ICommandPalette | null
  ): void => {
    if (notebooks === null) {
      return;
    }
    runAsPipeline(app, notebooks, commands, FORM);
  }
};

export const formPlugins = [tabs, palette, notebook] as JupyterFrontEndPlugin<unknown>[];
