// An ordinary day in two minutes: up to forty visits a second, a third of their requests writes. An open model, as in smoke.ts: an answer
// that takes long delays nobody who comes after, and so cannot hide. ./stack load average
import { visit } from './ledger.ts';

export const options = {
  scenarios: {
    visits: {
      executor: 'ramping-arrival-rate',
      startRate: 5,
      timeUnit: '1s',
      preAllocatedVUs: 200,
      stages: [
        { target: 40, duration: '30s' },
        { target: 40, duration: '60s' },
        { target: 0, duration: '30s' },
      ],
    },
  },
  thresholds: {
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    http_req_failed: ['rate==0'],
    'http_req_duration{method:GET}': ['p(95)<250'],
    'http_req_duration{method:POST}': ['p(95)<500'],
  },
};

export default visit;
