// Models with their versions: aliases, and whether each gate holds.
import { IAiplat, IGate, IModel, IVersion } from '../api';
import { IBadge, IRow, List, Rows } from './list';
import { Section } from './section';
import { ago, count, duration, fullTime, Mark } from './words';

/** How many versions of an opened model are asked for at once. */
const PAGE = 200;

export class Models extends Section {
  constructor(shared: IAiplat) {
    super(shared, 'Models', ['models', 'ledger']);
    this._list = new List('Models and their versions');
    this._list.opened.connect((_, row) => this._open(row));
    this._list.toggled.connect((_, row) => this._toggle(row.id));
    this._list.ranged.connect((_, [, last]) => void this._more(last));
    this.addPart(this._list);
  }

  protected async load(): Promise<void> {
    const { api } = this.shared;
    const models = await api.models();
    // of opened models as many versions as were there before, so that the list does not jump
    for (const model of models.filter(each => this._opened.has(each.name))) {
      const seen = this._models.find(each => each.name === model.name)?.versions.length ?? 0;
      while (model.next && model.versions.length < seen) {
        extend(model, (await api.models({ name: model.name, limit: PAGE, before: model.next }))[0]);
      }
    }
    models.forEach(model => extend(model, undefined, model.next));
    this._models = models;
    this._show();
  }

  private _open(row: IRow): void {
    this.shared.open(row.kind === 'model' ? 'model' : 'version', row.id);
  }

  private _toggle(name: string): void {
    if (!this._opened.delete(name)) {
      this._opened.add(name);
    }
    this._show();
  }

  /** The next page of versions, when the end of an opened model comes into sight. */
  private async _more(last: number): Promise<void> {
    const model = this._ends.find(([end]) => last >= end - 20)?.[1];
    if (!model?.next || this._loading) {
      return;
    }
    this._loading = true;
    try {
      const [older] = await this.shared.api.models({ name: model.name, limit: PAGE, before: model.next });
      if (this._models.includes(model)) {
        extend(model, older);
        this._show();
      }
    } catch {
      this.refresh(); // which says what is wrong
      return;
    } finally {
      this._loading = false;
    }
    this._list.update(); // what was asked anew meanwhile may end in sight again
  }

  private _show(): void {
    const rows: IRow[] = [];
    this._ends = [];
    this._models.forEach((model, place) => {
      const open = this._opened.has(model.name);
      rows.push({ ...modelRow(model, open), position: place + 1, siblings: this._models.length });
      if (open) {
        model.versions.forEach((version, index) => {
          const siblings = model.next ? -1 : model.versions.length;
          rows.push({ ...versionRow(model.name, version), position: index + 1, siblings });
        });
        if (model.next) {
          this._ends.push([rows.length, model]);
        }
      }
    });
    this._list.set(new Rows(rows), 'No model is registered yet. `%aiplat register` makes a model of a run.');
  }

  private _list: List;
  private _models: IModel[] = [];
  private _opened = new Set<string>();
  private _ends: [number, IModel][] = [];
  private _loading = false;
}

/** Add a page of older versions. Old ones that have an alias came with the first page already: newest first anew. */
function extend(model: IModel, older?: IModel, next = older?.next): void {
  const seen = new Set(model.versions.map(each => each.version));
  model.versions.push(...(older?.versions ?? []).filter(each => !seen.has(each.version)));
  model.versions.sort((a, b) => b.version - a.version);
  model.next = next;
}

function modelRow(model: IModel, open: boolean): IRow {
  const badges = model.versions.flatMap(version => version.aliases.map(alias => aliasBadge(alias, version)));
  const known = count(model.versions.length, 'version');
  return {
    key: `model:${model.name}`,
    kind: 'model',
    id: model.name,
    level: 1,
    open,
    mark: 'none',
    state: '',
    label: model.name,
    badges,
    note: model.next ? '' : String(model.versions.length),
    title: [model.name, model.next ? '' : known, ...badges.map(badge => badge.title)].filter(Boolean).join('\n')
  };
}

function versionRow(model: string, version: IVersion): IRow {
  const badges = version.aliases.map(alias => aliasBadge(alias, version));
  const others = version.gates.filter(gate => !version.aliases.includes(gate.alias));
  badges.push(...others.map(gate => ({ text: gate.alias, mark: gateMark(gate), title: gateWords(gate) })));
  const made = [version.by ? `by ${version.by}` : '', fullTime(version.created)].filter(Boolean).join(', ');
  return {
    key: `version:${model}/${version.version}`,
    kind: 'version',
    id: `${model}/${version.version}`,
    level: 2,
    mark: 'none',
    state: '',
    label: `v${version.version}`,
    badges,
    note: ago(version.created),
    title: [`${model}/${version.version}`, made, ...badges.map(badge => badge.title)].filter(Boolean).join('\n')
  };
}

/** An alias that stands on a version, with what its gate says of that version now. */
function aliasBadge(alias: string, version: IVersion): IBadge {
  const gate = version.gates.find(each => each.alias === alias);
  const title = `@${alias} is version ${version.version}`;
  return {
    text: alias,
    held: true,
    mark: gate ? gateMark(gate) : 'none',
    title: gate ? `${title}; ${gateWords(gate)}` : title
  };
}

function gateMark(gate: IGate): Mark {
  return gate.holds === null ? 'warn' : gate.holds ? 'good' : 'bad';
}

function gateWords(gate: IGate): string {
  const verdict = gate.holds === null ? 'cannot be told' : gate.holds ? 'holds' : 'does not hold';
  const age = gate.age_seconds === null ? '' : ` (evidence ${duration(gate.age_seconds)} old)`;
  return `gate ${gate.alias} ${verdict}${gate.summary ? `: ${gate.summary}` : ''}${age}`;
}
