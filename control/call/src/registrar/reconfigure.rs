//! Other accounts and bounds while devices are registered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{Registrar, store, unregistered};
use crate::{
    config::{Account, Config, ConfigError},
    domain::Name,
    journal::RecordKind,
};

impl Registrar {
    /// Goes over from one configuration to another of the same realm and algorithms. Devices of accounts that are gone are
    /// registered no more; those of others stay, under whatever password they came, until they register again. Gives
    /// the users who lost theirs.
    ///
    /// # Errors
    /// A hash cannot be used; then nothing changed.
    pub(crate) fn reconfigure(
        &mut self,
        now: Instant,
        (old, new): (&Config, &Config),
        records: &mut Vec<RecordKind>,
    ) -> Result<Vec<Name>, ConfigError> {
        let known: BTreeMap<&str, &Account> = old
            .accounts
            .iter()
            .map(|account| (account.user.as_str(), account))
            .collect();
        // Hashing takes a microsecond each: not those that are as they were.
        let others = new
            .accounts
            .iter()
            .filter(|account| known.get(account.user.as_str()) != Some(account));
        let others = others
            .map(|account| Ok((Name::from(account.user.as_str()), store(account, new.realm())?)))
            .collect::<Result<Vec<_>, ConfigError>>()?;
        let wanted: BTreeSet<&str> = new.accounts.iter().map(|account| account.user.as_str()).collect();
        let gone = self.accounts.keys().filter(|user| !wanted.contains(&***user));
        let gone: Vec<Name> = gone.cloned().collect();
        for user in &gone {
            self.accounts.remove(user);
            for binding in self.drop_quietly(user, |_| true) {
                records.push(unregistered(user, &binding, true));
            }
        }
        self.accounts.extend(others);
        self.digest.require_same_uri(!new.digest_any_uri);
        if self.bounds != new.registration {
            self.bounds = new.registration;
            self.plan_pings(now);
        }
        Ok(gone)
    }
}
