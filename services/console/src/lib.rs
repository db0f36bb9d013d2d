//! What ./stack asks when no single service can answer: status, doctor.
