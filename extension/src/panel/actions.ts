// What can be done with a thing: verbs whose form opens with the thing already in it.
import { CommandRegistry } from '@lumino/commands';

/** The form of a verb: `{ verb, draft }`. Registered by the forms' plugin. */
export const FORM = 'aiplat:form';

export interface IAction {
  label: string;
  verb: string;
  /** The parameter that the thing is. */
  field: string;
}

/** By the kind of the thing; the first are also buttons above its tab. */
export const ACTIONS: Record<string, readonly IAction[]> = {
  run: [
    { label: 'Audit…', verb: 'audit', field: 'ref' },
    { label: 'Explain…', verb: 'explain', field: 'ref' },
    { label: 'Mitigate…', verb: 'mitigate', field: 'ref' },
    { label: 'Register…', verb: 'register', field: 'ref' }
  ],
  model: [{ label: 'Roll Back…', verb: 'rollback', field: 'name' }],
  version: [
    { label: 'Audit…', verb: 'audit', field: 'ref' },
    { label: 'Explain…', verb: 'explain', field: 'ref' },
    { label: 'Ask the Gate…', verb: 'gate', field: 'model' },
    { label: 'Approve…', verb: 'approve', field: 'model' },
    { label: 'Refuse…', verb: 'refuse', field: 'model' },
    { label: 'Promote…', verb: 'promote', field: 'model' },
    { label: 'Deploy…', verb: 'deploy', field: 'model' }
  ],
  endpoint: [
    { label: 'Traffic…', verb: 'traffic', field: 'name' },
    { label: 'Report…', verb: 'monitor report', field: 'name' },
    { label: 'Check…', verb: 'monitor check', field: 'name' },
    { label: 'Take Off…', verb: 'undeploy', field: 'name' }
  ],
  stream: [
    { label: 'Report…', verb: 'monitor report', field: 'name' },
    { label: 'Check…', verb: 'monitor check', field: 'name' }
  ],
  pipeline: [
    { label: 'Run…', verb: 'pipeline run', field: 'pipeline' },
    { label: 'Check…', verb: 'pipeline check', field: 'pipeline' },
    { label: 'Schedule…', verb: 'schedule add', field: 'pipeline' }
  ],
  schedule: [
    { label: 'Trigger…', verb: 'schedule trigger', field: 'name' },
    { label: 'Pause…', verb: 'schedule pause', field: 'name' },
    { label: 'Resume…', verb: 'schedule resume', field: 'name' },
    { label: 'Remove…', verb: 'schedule remove', field: 'name' }
  ],
  'pipeline-run': [
    { label: 'Cancel…', verb: 'pipeline cancel', field: 'run' },
    { label: 'Resume…', verb: 'pipeline resume', field: 'run' }
  ]
};

/** Open the form of a verb, with or without something in it. */
export function openForm(commands: CommandRegistry, verb: string, draft: Record<string, string> = {}): void {
  void commands.execute(FORM, { verb, draft });
}
