// The fields themselves. All are the browser's own controls: keyboards, screen readers and phones know them already.
import { useEffect, useRef, useState } from 'react';
import { IField, Pairs } from './fields';

/** What every field is told: its id, what describes it, whether it is wrong. */
interface IAbout {
  id: string;
  described: string;
  invalid: boolean;
}

interface IPlain extends IAbout {
  field: IField;
  value: string;
  change(value: string): void;
  leave(): void;
}

/** What is the same for every text field. */
function common(props: IPlain) {
  return {
    id: props.id,
    value: props.value,
    'aria-describedby': props.described || undefined,
    'aria-invalid': props.invalid || undefined,
    'aria-required': props.field.required || undefined,
    spellCheck: false,
    onBlur: props.leave
  };
}

/** What stands in an empty field: the default, so that nobody has to look it up. */
function hint(field: IField): string | undefined {
  return field.fallback || (field.many === 'words' ? 'name=a,b' : field.many === 'commas' ? 'a, b' : undefined);
}

export function Text(props: IPlain): JSX.Element {
  return (
    <input
      {...common(props)}
      type="text"
      inputMode={props.field.kind === 'number' ? (props.field.whole ? 'numeric' : 'decimal') : undefined}
      className={props.field.kind === 'number' ? 'aip-number' : undefined}
      placeholder={hint(props.field)}
      onChange={event => props.change(event.target.value)}
    />
  );
}

export function Choice(props: IPlain): JSX.Element {
  const { field } = props;
  return (
    <select {...common(props)} onChange={event => props.change(event.target.value)}>
      <option value="">{field.fallback ? `${field.fallback} (default)` : field.required ? 'Choose…' : '–'}</option>
      {field.choices
        .filter(each => each !== field.fallback)
        .map(each => (
          <option key={each} value={each}>
            {each}
          </option>
        ))}
    </select>
  );
}

const PAUSE = 150; // milliseconds after the last key before the server is asked for choices

/** A text field that offers what the server knows: files, columns, runs, models … Anything else may be typed. */
export function Suggested(props: IPlain & { choices(typed: string): Promise<string[]> }): JSX.Element {
  const { field, value } = props;
  const [offered, setOffered] = useState<string[]>([]);
  const [asked, setAsked] = useState<string | null>(null);
  const ask = useRef(props.choices);
  ask.current = props.choices;
  // of a list with commas, only the part behind the last one is completed
  const cut = field.many === 'commas' ? value.lastIndexOf(',') + 1 : 0;
  const [head, part] = [value.slice(0, cut), value.slice(cut).trim()];
  useEffect(() => {
    if (asked === null) {
      return; // nobody has been here yet
    }
    let stale = false;
    const timer = window.setTimeout(() => {
      ask.current(asked).then(
        found => !stale && setOffered(found),
        () => !stale && setOffered([]) // a field without suggestions is still a field
      );
    }, PAUSE);
    return () => {
      stale = true;
      window.clearTimeout(timer);
    };
  }, [asked]);
  const taken = new Set(head.split(',').map(each => each.trim()));
  return (
    <>
      <input
        {...common(props)}
        type="text"
        list={`${props.id}-list`}
        placeholder={hint(field)}
        onFocus={() => setAsked(part)}
        onChange={event => {
          const text = event.target.value;
          props.change(text);
          setAsked(field.many === 'commas' ? text.slice(text.lastIndexOf(',') + 1).trim() : text.trim());
        }}
      />
      <datalist id={`${props.id}-list`}>
        {offered
          .filter(each => !taken.has(each))
          .map(each => (
            <option key={each} value={head ? `${head.trimEnd()} ${each}` : each} />
          ))}
      </datalist>
    </>
  );
}

export function Flag(props: IAbout & { label: string; value: boolean; change(value: boolean): void }): JSX.Element {
  return (
    <label className="aip-flag" htmlFor={props.id}>
      <input
        id={props.id}
        type="checkbox"
        checked={props.value}
        aria-describedby={props.described || undefined}
        onChange={event => props.change(event.target.checked)}
      />
      {props.label}
    </label>
  );
}

/** Names with values, a row each; there is always an empty row to type into. */
export function PairsField(props: IAbout & { value: Pairs; change(value: Pairs): void }): JSX.Element {
  const rows: Pairs = [...props.value, ['', '']];
  const set = (index: number, name: string, value: string) => {
    const next: Pairs = rows.map((row, at) => (at === index ? [name, value] : row));
    props.change(next.filter(([name, value], at) => name || value || at < next.length - 1));
  };
  return (
    <div className="aip-pairs" role="group" aria-describedby={props.described || undefined}>
      {rows.map(([name, value], index) => (
        <div className="aip-pair" key={index}>
          <input
            id={index === 0 ? props.id : undefined}
            type="text"
            placeholder="name"
            aria-label={`Name ${index + 1}`}
            aria-invalid={props.invalid || undefined}
            spellCheck={false}
            value={name}
            onChange={event => set(index, event.target.value, value)}
          />
          <input
            type="text"
            placeholder="value"
            aria-label={`Value ${index + 1}`}
            spellCheck={false}
            value={value}
            onChange={event => set(index, name, event.target.value)}
          />
          {index < props.value.length && (
            <button
              type="button"
              className="aip-button aip-small"
              aria-label={`Remove ${name || `row ${index + 1}`}`}
              onClick={() => props.change(props.value.filter((_, at) => at !== index))}
            >
              ×
            </button>
          )}
        </div>
      ))}
    </div>
  );
}
