// An owner of the ledger, as a client program is one: it keeps its token and its causal token, gives every write a key of its own, and
// begins a trace with every request. Shared by the tests beside it.
import { check } from 'k6';
import http from 'k6/http';
import type { RefinedResponse, ResponseType } from 'k6/http';

const BASE = __ENV.BASE_URL || 'https://localhost:8443';
const TRACES = __ENV.TRACES_URL || 'http://localhost:16686/trace';

type Answer = RefinedResponse<ResponseType | undefined>;
type Headers = Record<string, string>;

/** `bytes` random bytes in hexadecimal. */
function hex(bytes: number): string {
  const drawn = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(drawn, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** One owner, and what it knows of its own writes. */
export class Owner {
  private token = '';
  private causal = '';
  private from = '';
  private to = '';
  private moved = 0;

  /** Signs up, and opens two accounts; the first has all the money. */
  constructor(private openingCents: number) {
    const owner = this.post('/api/owners', { name: 'Load' }, {});
    this.token = owner.json('token') as string;
    this.from = this.open('Current', openingCents);
    this.to = this.open('Savings', 0);
  }

  private open(name: string, openingCents: number): string {
    const account = this.post('/api/accounts', { name, opening_cents: openingCents }, { 'idempotency-key': hex(16) });
    return account.json('id') as string;
  }

  /** Moves a cent, once. */
  transfer(): void {
    const body = { from: this.from, to: this.to, amount_cents: 1 };
    const answer = this.post('/api/transfers', body, { 'idempotency-key': hex(16) });
    if (answer.status === 201) this.moved += 1;
  }

  /** Reads the account that it moves money from: its own writes are in it, whoever answers. */
  balance(): void {
    const expected = this.openingCents - this.moved;
    this.get(`/api/accounts/${this.from}`, '/api/accounts/{id}', {
      'has all of its own writes': (answer) => answer.json('balance_cents') === expected,
    });
  }

  /** Reads its transfers, the newest first. */
  transfers(): void {
    this.get(`/api/transfers?account=${this.from}&limit=20`, '/api/transfers', {
      'is a list': (answer) => Array.isArray(answer.json('items')),
    });
  }

  private get(path: string, route: string, checks: Record<string, (answer: Answer) => boolean>): void {
    const { headers, trace } = this.headers({});
    const answer = http.get(`${BASE}${path}`, { headers, tags: { name: `GET ${route}` } });
    this.judge(answer, trace, 200, checks);
  }

  private post(path: string, body: object, more: Headers): Answer {
    const { headers, trace } = this.headers({ 'content-type': 'application/json', ...more });
    const answer = http.post(`${BASE}${path}`, JSON.stringify(body), { headers, tags: { name: `POST ${path}` } });
    this.judge(answer, trace, 201, {});
    return answer;
  }

  private headers(more: Headers): { headers: Headers; trace: string } {
    const trace = hex(16);
    const headers: Headers = { traceparent: `00-${trace}-${hex(8)}-01`, ...more };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    if (this.causal) headers['causal-token'] = this.causal;
    return { headers, trace };
  }

  /** Keeps what proves the session's writes. A check that fails says where its trace is. */
  private judge(answer: Answer, trace: string, status: number, more: Record<string, (answer: Answer) => boolean>): void {
    const causal = answer.headers['Causal-Token'];
    if (causal) this.causal = causal;
    const well = check(answer, { [`is ${status}`]: (given) => given.status === status })
      && check(answer, more);
    if (!well) {
      console.error(`${answer.request.method} ${answer.url}: ${answer.status} ${answer.error} ${answer.body} ${TRACES}/${trace}`);
    }
  }
}

let owner: Owner | undefined;

/** An iteration: a write, then reads that must see it. Every virtual user is an owner of its own, from its first iteration on. */
export function visit(): void {
  owner ??= new Owner(1_000_000);
  owner.transfer();
  owner.balance();
  owner.transfers();
}
