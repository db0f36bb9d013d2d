//! Ring 3: the whole stack in Compose. There is no code here: the tests are in main.rs and the modules beside it.
