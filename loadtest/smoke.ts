// Does all of it work? A few owners for ten seconds. An open model: visits begin when they are due, whether the earlier ones are answered
// or not, and one that cannot begin is a failure. ./stack load smoke
import { visit } from './ledger.ts';

export const options = {
  scenarios: {
    visits: {
      executor: 'constant-arrival-rate',
      rate: 5,
      timeUnit: '1s',
      duration: '10s',
      preAllocatedVUs: 50,
    },
  },
  thresholds: {
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    http_req_failed: ['rate==0'],
    http_req_duration: ['p(95)<5000'],
  },
};

export default visit;
