// From a schema to the fields of a form, and from what was typed to the arguments of a verb. Nothing here draws.

import { JSONObject, JSONValue } from '@lumino/coreutils';
import { IField as ISchemaField, ISchema } from '../api';

/** A property as the server sends it; the metavar says how a list is written. */
type Property = ISchemaField & { 'x-metavar'?: string };

/** One line of a form. */
export interface IField {
  name: string;
  title: string;
  help: string;
  kind: string;
  required: boolean;
  /** Takes several values: written with commas, or as words with spaces between. */
  many: 'no' | 'commas' | 'words';
  /** A number without a fraction. */
  whole: boolean;
  choices: string[];
  /** The default as a person would type it. */
  fallback: string;
  /** For numbers: what is allowed. */
  least?: number;
  most?: number;
  order: number;
}

/** Pairs of a name and a value, as `-p NAME VALUE` takes them. */
export type Pairs = [string, string][];
/** What stands in a field: text, a tick, or pairs. */
export type Entry = string | boolean | Pairs;
/** What was typed so far, by field; fields that nobody touched are not in it. */
export type Draft = Record<string, Entry>;
/** What is wrong, by field. */
export type Wrong = Record<string, string>;

/** The types that a property admits, without null. */
function typesOf(property: Property): string[] {
  const types = Array.isArray(property.type) ? property.type : property.type ? [property.type] : [];
  return types.filter(type => type !== 'null');
}

/** A value as a person would type it. */
export function typed(value: unknown): string {
  if (value === null || value === undefined) {
    return '';
  }
  if (Array.isArray(value)) {
    return value.map(item => String(item).replace(/,/g, '\\,')).join(', ');
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function kindOf(property: Property): string {
  const types = typesOf(property);
  if (property['x-kind']) {
    return property['x-kind'];
  }
  if (property.enum) {
    return 'choice';
  }
  if (types.includes('boolean')) {
    return 'flag';
  }
  return types.length > 0 && types.every(type => type === 'integer' || type === 'number') ? 'number' : 'text';
}

/** The field for one property. */
export function fieldOf(name: string, property: Property, required: boolean): IField {
  const types = typesOf(property);
  const kind = kindOf(property);
  const said = kind === 'pairs' ? '' : typed(property.default);
  return {
    name,
    title: property.title || name,
    help: property.description ?? '',
    kind,
    required,
    many: types.includes('array') ? (property['x-metavar'] === 'NAME=A,B' ? 'words' : 'commas') : 'no',
    whole: (property.items ? typesOf(property.items) : types).every(type => type === 'integer') && kind === 'number',
    choices: (property.enum ?? property.items?.enum ?? []).filter(each => each !== null).map(typed),
    fallback: said,
    least: property.minimum,
    most: property.maximum,
    order: property['x-order'] ?? 1000
  };
}

/** The fields of a schema: what is needed first, then in the order of the signature. */
export function fieldsOf(schema: ISchema): IField[] {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {})
    .map(([name, property]) => fieldOf(name, property, required.has(name)))
    .sort((a, b) => Number(b.required) - Number(a.required) || a.order - b.order);
}

/** Fields that belong together under one heading. */
export interface IGroup {
  title: string;
  fields: IField[];
}

/** The groups of a form: what is needed, what may be said, and what is only ticked. */
export function groupsOf(fields: IField[]): IGroup[] {
  const needed = fields.filter(field => field.required);
  const open = fields.filter(field => !field.required && field.kind !== 'flag');
  const flags = fields.filter(field => !field.required && field.kind === 'flag');
  const groups = [
    { title: 'Needed', fields: needed },
    { title: needed.length > 0 ? 'Optional' : 'Options', fields: open },
    { title: 'Switches', fields: flags }
  ];
  return groups.filter(group => group.fields.length > 0);
}

/** The parts of a list written with commas; a comma that belongs to a part is written `\,`. */
export function partsOf(text: string): string[] {
  return text
    .split(/(?<!\\),/)
    .map(part => part.trim().replace(/\\,/g, ','))
    .filter(part => part.length > 0);
}

function numberOf(field: IField, text: string): number | string {
  const value = Number(text.replace(/_/g, ''));
  if (Number.isNaN(value) || !Number.isFinite(value)) {
    return `${text} is not a number`;
  }
  if (field.whole && !Number.isInteger(value)) {
    return `${text} is not a whole number`;
  }
  if (field.least !== undefined && value < field.least) {
    return `${text} is less than ${field.least}`;
  }
  if (field.most !== undefined && value > field.most) {
    return `${text} is more than ${field.most}`;
  }
  return value;
}

function readPairs(entry: Pairs): { value?: unknown; wrong?: string } {
  const pairs = entry.filter(([name, value]) => name.trim() || value.trim());
  const value: Record<string, string> = {};
  for (const [name, given] of pairs.map(([name, given]) => [name.trim(), given])) {
    if (!name) {
      return { wrong: `'${given}' needs a name beside it` };
    }
    if (Object.hasOwn(value, name)) {
      return { wrong: `${name} is given twice` };
    }
    value[name] = given;
  }
  return pairs.length > 0 ? { value } : {};
}

/** What stands in one field: its value, nothing, or what is wrong with it. */
export function read(field: IField, entry: Entry | undefined): { value?: unknown; wrong?: string } {
  if (typeof entry === 'boolean') {
    return entry === (field.fallback === 'true') ? {} : { value: entry };
  }
  if (Array.isArray(entry)) {
    return readPairs(entry);
  }
  const text = (entry ?? '').trim();
  if (!text) {
    return field.required ? { wrong: `${field.title} is needed` } : {};
  }
  const parts = field.many === 'commas' ? partsOf(text) : field.many === 'words' ? text.split(/\s+/) : [text];
  const odd = field.choices.length > 0 ? parts.find(part => !field.choices.includes(part)) : undefined;
  if (odd !== undefined) {
    return { wrong: `${odd} is none of ${field.choices.join(', ')}` };
  }
  if (field.kind !== 'number') {
    return { value: field.many === 'no' ? text : parts };
  }
  const numbers = parts.map(part => numberOf(field, part));
  const bad = numbers.find(each => typeof each === 'string');
  return bad !== undefined ? { wrong: String(bad) } : { value: field.many === 'no' ? numbers[0] : numbers };
}

/** The arguments that a form gives to its verb, and what is wrong with them. */
export function readAll(fields: IField[], draft: Draft): { values: JSONObject; wrong: Wrong } {
  const values: JSONObject = {};
  const wrong: Wrong = {};
  for (const field of fields) {
    const found = read(field, draft[field.name]);
    if (found.wrong) {
      wrong[field.name] = found.wrong;
    } else if (found.value !== undefined) {
      values[field.name] = found.value as JSONValue;
    }
  }
  return { values, wrong };
}
