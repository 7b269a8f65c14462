// What stands in a form and what it does: of a verb by its schema, of a notebook by its `parameters` cell.
import { Clipboard } from '@jupyterlab/apputils';
import { JSONObject } from '@lumino/coreutils';
import { IAiplat, FieldKind, IParameter, Problem } from '../api';
import { Draft, fieldOf, fieldsOf, IField } from './fields';
import { FormSource } from './tabs';

/** The value of the form's field for data: columns are those of that data. */
function dataOf(fields: IField[], draft: Draft): string {
  const field = fields.find(each => each.kind === 'data' && typeof draft[each.name] === 'string' && draft[each.name]);
  return field ? String(draft[field.name]) : '';
}

/** What is offered where `kind` is asked for. */
async function choices(
  aiplat: IAiplat,
  field: IField,
  typed: string,
  fields: IField[],
  draft: Draft
): Promise<string[]> {
  const data = field.kind === 'columns' ? dataOf(fields, draft) : '';
  return aiplat.api.choices(field.kind as FieldKind, typed, data);
}

/** The heading of a verb: as it is typed, with a capital. */
export function titled(verb: string): string {
  return verb.charAt(0).toUpperCase() + verb.slice(1);
}

/** The form of a verb. */
export async function verbSource(
  aiplat: IAiplat,
  verb: string,
  insert: (line: string) => Promise<void>
): Promise<FormSource> {
  const about = await aiplat.api.verb(verb);
  const fields = fieldsOf(about.schema);
  const paragraphs = about.description.split(/\n\s*\n/).filter(each => each.trim());
  return {
    title: titled(about.name),
    about: paragraphs.length > 0 ? paragraphs : [about.help],
    fields,
    action: 'Run',
    choices: (field, typed, draft) => choices(aiplat, field, typed, fields, draft),
    line: values => aiplat.api.line(verb, values),
    run: values => aiplat.api.start(verb, values),
    insert: { label: 'Insert %aiplat line', act: insert }
  };
}

/** The field for a parameter of a notebook. What is written is read by the engine, by the parameter's own type. */
function parameterField(parameter: IParameter & { required?: boolean }): IField {
  const needed = parameter.required ?? parameter.default === null;
  const property = { ...parameter.schema, description: parameter.help, default: parameter.default };
  const field = fieldOf(parameter.name, property, needed);
  return {
    ...field,
    title: parameter.name,
    help: [parameter.help, parameter.type].filter(Boolean).join(' · '),
    // a flag that has no default must be said either way
    kind: field.kind === 'flag' && needed ? 'choice' : field.kind,
    choices: field.kind === 'flag' && needed ? ['true', 'false'] : field.choices,
    many: 'no',
    order: 0
  };
}

/** The form of a notebook: its parameters, typed. */
export async function notebookSource(aiplat: IAiplat, path: string): Promise<FormSource> {
  const about = await aiplat.api.notebook(path);
  const fields = about.parameters.map(parameterField);
  const asked = (values: JSONObject): JSONObject => ({
    pipeline: about.path,
    p: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]))
  });
  const name = path.split('/').pop() ?? path;
  const none = `Runs ${name} from top to bottom in a kernel of its own. Its 'parameters' cell asks for nothing: assignments in that cell become fields here. The executed copy opens beside it.`;
  const some = `Runs ${name} from top to bottom in a kernel of its own, with these values in place of those in its 'parameters' cell. The notebook stays as it is; the executed copy opens beside it.`;
  return {
    title: `Run ${name} as a pipeline`,
    about: about.problem ? [] : [fields.length > 0 ? some : none],
    fields,
    heading: 'Parameters',
    action: 'Run as pipeline',
    problem: about.problem ? new Problem(-1, about.problem.title, about.problem.todo) : null,
    choices: async () => [],
    line: values => aiplat.api.line('pipeline run', asked(values)),
    run: values => aiplat.api.start('pipeline run', asked(values)),
    insert: { label: 'Copy %aiplat line', act: async line => Clipboard.copyToSystem(line) }
  };
}
