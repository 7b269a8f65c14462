// Endpoints and streams: which versions answer people, how much they are asked, what waits, and whether somebody has to look.
import { launchIcon, runIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { IAiplat, IAnswering, IArm, IEndpoint, IStream, ViewKind } from '../api';
import { openForm } from './actions';
import { IBadge, IRow, List, Rows } from './list';
import { Section } from './section';
import { count, fullTime, Mark } from './words';

export class Endpoints extends Section {
  constructor(shared: IAiplat, commands: CommandRegistry) {
    super(shared, 'Endpoints', ['endpoints']);
    this._list = new List('Endpoints with their versions, and streams');
    this._list.opened.connect((_, row) => shared.open(row.kind as ViewKind, row.id));
    this._list.toggled.connect((_, row) => this._toggle(row.id));
    this.button(runIcon, 'Deploy a model…', () => openForm(commands, 'deploy'));
    this.button(launchIcon, 'Open the dashboards: Production', () => void commands.execute('aiplat:dashboards'));
    this.addPart(this._list);
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
    const { endpoints, streams } = this._told;
    const siblings = endpoints.length + streams.length;
    endpoints.forEach((endpoint, place) => {
      const open = !this._closed.has(endpoint.name);
      rows.push({ ...endpointRow(endpoint, open), position: place + 1, siblings });
      if (open) {
        const { versions } = endpoint;
        rows.push(
          ...versions.map((arm, i) => ({ ...armRow(endpoint, arm), position: i + 1, siblings: versions.length }))
        );
      }
    });
    streams.forEach((stream, place) => {
      rows.push({ ...streamRow(stream), position: endpoints.length + place + 1, siblings });
    });
    this._list.set(new Rows(rows), 'No model answers people yet. `%aiplat deploy` lets one.');
  }

  private _list: List;
  private _told: IAnswering = { endpoints: [], streams: [] };
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

const FLOWS = {
  running: 'answers messages',
  trouble: 'something is wrong',
  down: 'does not run: nobody answers its messages',
  ended: 'ended in good order'
};
const FLOW_MARKS: Record<IStream['state'], Mark> = { running: 'good', trouble: 'warn', down: 'bad', ended: 'off' };

function streamRow(stream: IStream): IRow {
  const { name, state, waiting, rate, buried, alerts, trouble, versions } = stream;
  const lag = waiting === null ? 'lag not known' : `${waiting.toLocaleString('en-US')} waiting`;
  const badges: IBadge[] = [];
  if (state === 'trouble' || state === 'down') {
    badges.push({ text: state, mark: state === 'down' ? 'bad' : 'warn', title: trouble ?? FLOWS[state] });
  }
  if (alerts) {
    badges.push({ text: count(alerts, 'alert'), mark: 'bad', title: `open alerts: aiplat monitor report ${name}` });
  }
  if (buried) {
    badges.push({ text: `${buried} dead`, mark: 'warn', title: `${count(buried, 'message')} could not be answered` });
  }
  return {
    key: `stream:${name}`,
    kind: 'stream',
    id: name,
    level: 1,
    mark: state === 'running' && alerts ? 'warn' : FLOW_MARKS[state],
    state: FLOWS[state],
    label: name,
    badges,
    note: lag,
    title: [
      `${name}: ${FLOWS[state]}`,
      trouble ?? '',
      `${versions.join(', ')}: from ${stream.from} to ${stream.to}`,
      `${stream.processes} process${stream.processes === 1 ? '' : 'es'}, ${perSecond(rate)} messages per second, ${lag}`,
      `${count(stream.answered, 'message')} answered, ${buried} could not be; heard ${fullTime(stream.heard)}`
    ]
      .filter(Boolean)
      .join('\n')
  };
}

function perSecond(rate: number): string {
  return rate >= 100 ? String(Math.round(rate)) : String(+rate.toPrecision(2));
}
