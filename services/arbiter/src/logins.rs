//! Logins that the servers have refused. Each server counts from its own boot; here they are counted on, from the first look at it, so that
//! neither its restart nor ours looks like a refusal.

use std::collections::BTreeMap;

use crate::observe::{Facts, Observation};

/// How far each server had counted at the last look, and in which boot.
#[derive(Debug, Default)]
pub struct RefusedLogins {
    seen: BTreeMap<String, (String, u64)>,
}

impl RefusedLogins {
    /// What each server that answered has refused since the look before; none at the first look at it.
    pub fn since_last<'o>(
        &mut self,
        servers: &'o BTreeMap<String, Observation>,
    ) -> Vec<(&'o str, u64)> {
        let answered = servers
            .iter()
            .filter_map(|(name, observation)| Some((name.as_str(), observation.as_ref().ok()?)));
        answered
            .map(|(name, facts)| (name, self.news_of(name, facts)))
            .collect()
    }

    fn news_of(&mut self, name: &str, facts: &Facts) -> u64 {
        let now = (facts.boot.clone(), facts.refused_logins);
        match self.seen.insert(name.to_owned(), now) {
            None => 0,
            Some((boot, before)) if boot == facts.boot => {
                facts.refused_logins.saturating_sub(before)
            }
            Some(_) => facts.refused_logins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Silence;

    fn said(boot: &str, refused_logins: u64) -> BTreeMap<String, Observation> {
        let facts = Facts {
            boot: boot.to_owned(),
            refused_logins,
            ..Facts::of_a_new_server("")
        };
        [("mysql-1".to_owned(), Ok(facts))].into()
    }

    #[test]
    fn refusals_are_counted_on_through_boots_and_those_before_the_first_look_are_not() {
        let mut logins = RefusedLogins::default();
        for (boot, count, news) in [
            ("one", 7, 0),
            ("one", 7, 0),
            ("one", 9, 2),
            ("two", 3, 3),
            ("two", 4, 1),
            // Somebody has truncated the table.
            ("two", 0, 0),
            ("two", 1, 1),
        ] {
            let said = said(boot, count);
            assert_eq!(
                logins.since_last(&said),
                [("mysql-1", news)],
                "{boot} {count}"
            );
        }
        let away = [(
            "mysql-1".to_owned(),
            Err(Silence {
                why: "away".to_owned(),
                alive: false,
            }),
        )]
        .into();
        assert_eq!(logins.since_last(&away), []);
        assert_eq!(logins.since_last(&said("two", 5)), [("mysql-1", 4)]);
    }
}
