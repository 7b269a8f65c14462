// Endpoints: which versions answer people, how much they are asked, and whether somebody has to look.
import { launchIcon, runIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { IAiplat, IArm, IEndpoint } from '../api';
import { openForm } from './actions';
import { IBadge, IRow, List, Rows } from './list';
import { Section } from './section';
import { count, fullTime, Mark } from './words';

export class Endpoints extends Section {
  constructor(shared: IAiplat, commands: CommandRegistry) {
    super(shared, 'Endpoints', ['endpoints']);
    this._list = new List('Endpoints and their versions');
    this._list.opened.connect((_, row) => shared.open(row.kind === 'endpoint' ? 'endpoint' : 'version', row.id));
    this._list.toggled.connect((_, row) => this._toggle(row.id));
    this.button(runIcon, 'Deploy a model…', () => openForm(commands, 'deploy'));
    this.button(launchIcon, 'Open the dashboards: Production', () => void commands.execute('aiplat:dashboards'));
    this.addWidget(this._list);
  }

  protected async load(): Promise<void> {
    this._told = await this.shared.api.endpoints();
    this._show();
  }

  private _toggle(name: string): void {
    if (!this._closed.delete(name)) {
      this._closed.add(name);
    }
    this._show();
  }

  private _show(): void {
    const rows: IRow[] = [];
    this._told.forEach((endpoint, place) => {
      const open = !this._closed.has(endpoint.name);
      rows.push({ ...endpointRow(endpoint, open), position: place + 1, siblings: this._told.length });
      if (open) {
        const { versions } = endpoint;
        rows.push(
          ...versions.map((arm, i) => ({ ...armRow(endpoint, arm), position: i + 1, siblings: versions.length }))
        );
      }
    });
    this._list.set(new Rows(rows), 'No model answers people yet. `%aiplat deploy` lets one.');
  }

  private _list: List;
  private _told: IEndpoint[] = [];
  private _closed = new Set<string>();
}

const WORDS = {
  running: 'answers',
  astray: 'its workers follow another plan than the ledger says',
  down: 'does not run: nobody is answered'
};

function endpointRow(endpoint: IEndpoint, open: boolean): IRow {
  const { name, state, rate, requests, errors, alerts, since, by, reason } = endpoint;
  const mark: Mark = state === 'running' ? (alerts ? 'warn' : 'good') : 'bad';
  const badges: IBadge[] = [];
  if (state !== 'running') {
    badges.push({ text: state, mark: 'bad', title: WORDS[state] });
  }
  if (alerts) {
    badges.push({ text: count(alerts, 'alert'), mark: 'bad', title: `open alerts: aiplat monitor report ${name}` });
  }
  if (errors) {
    badges.push({ text: count(errors, 'error'), mark: 'warn', title: `${errors} of ${requests} requests failed` });
  }
  return {
    key: `endpoint:${name}`,
    kind: 'endpoint',
    id: name,
    level: 1,
    open,
    mark,
    state: WORDS[state],
    label: name,
    badges,
    note: rate === null ? '' : `${perSecond(rate)}/s`,
    title: [
      `${name}: ${WORDS[state]}`,
      endpoint.url ? `${endpoint.url}, ${count(endpoint.workers, 'worker')}` : '',
      `${count(requests, 'request')}, ${count(errors, 'error')} since ${fullTime(since)}`,
      [by ? `by ${by}` : '', reason ?? ''].filter(Boolean).join(': ')
    ]
      .filter(Boolean)
      .join('\n')
  };
}

function armRow(endpoint: IEndpoint, arm: IArm): IRow {
  const share = `${+(100 * arm.share).toFixed(1)} %`;
  const failed = arm.errors ? `, ${count(arm.errors, 'error')}` : '';
  return {
    key: `arm:${endpoint.name}:${arm.version}:${arm.role}`,
    kind: 'version',
    id: `${endpoint.model}/${arm.version}`,
    level: 2,
    mark: 'none',
    state: '',
    label: `${endpoint.model}/${arm.version}`,
    badges: [{ text: arm.role, mark: 'none', title: `${arm.role}: ${share} of the requests`, held: true }],
    note: share,
    title: `${endpoint.model}/${arm.version}: ${arm.role}, ${share}\n${count(arm.requests, 'request')}${failed}`
  };
}

function perSecond(rate: number): string {
  return rate >= 100 ? String(Math.round(rate)) : String(+rate.toPrecision(2));
}
