//! Menus: who dials one is answered, asked, and goes where the keys lead that it presses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use proto::mediad::v1::{self as pb, play_item::Source};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, ConfigError, invalid},
    limits,
    media::Scene,
    services::{dial_tone, for_ever, once},
    trunk::numbers,
};

/// A menu, as it stands in the file. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Menu {
    /// What callers dial.
    pub name: String,
    /// A prompt of the media hosts that says what there is to choose. Empty (default): a dial tone asks.
    #[serde(default)]
    pub prompt: String,
    /// Played before the question is asked again, to who pressed keys that lead nowhere. Empty (default): nothing is.
    #[serde(default)]
    pub invalid_prompt: String,
    /// Where keys lead, such as `"1" = "support"`: one key or several (`0` to `9`, `*`, `#`) to what could be dialled: an
    /// account, a queue, a room, another menu, a number that a route takes.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// From the end of the question to the first key. Default 5.
    #[serde(default = "first_key")]
    pub timeout_s: u64,
    /// From one key to the next, where several are meant; `#` ends them early. Default 3.
    #[serde(default = "next_key")]
    pub next_key_s: u64,
    /// So often the question is asked. Default 3.
    #[serde(default = "tries")]
    pub tries_max: u32,
    /// Where who chose nothing is brought. Empty (default): its call ends.
    #[serde(default)]
    pub otherwise: String,
}

fn first_key() -> u64 {
    5
}
fn next_key() -> u64 {
    3
}
fn tries() -> u32 {
    3
}

/// What keys mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys<'a> {
    /// They lead there.
    Whole(&'a str),
    /// More may follow.
    Begun,
    /// They lead nowhere.
    Wrong,
}

impl Menu {
    /// What these keys mean. `is_over`: no more follow.
    pub(crate) fn read(&self, typed: &str, is_over: bool) -> Keys<'_> {
        let is_longer = |keys: &String| keys.len() > typed.len() && keys.starts_with(typed);
        let may_go_on = !is_over && self.keys.keys().any(is_longer);
        match self.keys.get(typed) {
            _ if may_go_on => Keys::Begun,
            Some(target) => Keys::Whole(target),
            None => Keys::Wrong,
        }
    }

    /// Whether this key says that no more follow.
    pub(crate) fn ends(&self, key: char) -> bool {
        key == '#' && !self.keys.keys().any(|keys| keys.contains('#'))
    }
}

/// A step that a caller took in a menu.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// The menu.
    pub menu: String,
    /// The keys; empty when the caller chose nothing and was brought on all the same.
    pub keys: String,
    /// Where they led.
    pub to: String,
}

/// A caller in a menu, or on its way from there: when nobody takes it, it is asked again.
#[derive(Debug)]
pub(crate) struct Selection {
    /// As it was when the caller came.
    pub(crate) menu: Arc<Menu>,
    /// Keys of a choice that is not made yet.
    pub(crate) typed: String,
    /// The number of the question. A player that has played plays no more: each is another.
    pub(crate) asked: u32,
    /// Questions that brought nothing.
    pub(crate) tries: u32,
    /// It is told that its keys led nowhere.
    pub(crate) is_corrected: bool,
    /// The media host does not have the prompt.
    pub(crate) lacks_prompt: bool,
    /// It is not asked again.
    pub(crate) is_given_up: bool,
    /// When the keys, or the wait for the first one, are over.
    pub(crate) until: Option<Instant>,
}

impl Selection {
    pub(crate) fn new(menu: Arc<Menu>) -> Self {
        Self {
            menu,
            typed: String::new(),
            asked: 0,
            tries: 0,
            is_corrected: false,
            lacks_prompt: false,
            is_given_up: false,
            until: None,
        }
    }

    /// The player that asks.
    pub(crate) fn question(&self) -> String {
        format!("menu-{}", self.asked)
    }

    /// Whether the question has an end, which the media host tells of; a tone has none.
    pub(crate) fn has_end(&self) -> bool {
        !self.menu.prompt.is_empty() && !self.lacks_prompt
    }

    /// Asks, and from the first key on listens for the others. The host stops the question at the first key by itself, and
    /// for that looks for tones in the sound of who sends no telephone-events.
    pub(crate) fn put(&self, scene: &mut Scene, caller: &str) {
        let (name, mut player) = if self.typed.is_empty() {
            (self.question(), self.player())
        } else {
            (
                format!("{}-keys", self.question()),
                for_ever(Source::SilenceMs(1_000)),
            )
        };
        player.barge_in = Some(pb::BargeIn {
            node: caller.to_owned(),
            on_digit: true,
            on_speech: false,
        });
        scene.play(&name, player, caller);
    }

    fn player(&self) -> pb::Player {
        if !self.has_end() {
            return once(dial_tone());
        }
        let mut player = once(Source::Prompt(self.menu.prompt.clone()));
        if self.is_corrected && !self.menu.invalid_prompt.is_empty() {
            let before = once(Source::Prompt(self.menu.invalid_prompt.clone()));
            player.items.splice(..0, before.items);
        }
        player
    }
}

/// Checks every menu.
///
/// # Errors
/// The first mistake found, with its key and the remedy.
pub(crate) fn check(config: &Config) -> Result<(), ConfigError> {
    let queues = config.queues.iter().map(|queue| &queue.name);
    let accounts = config.accounts.iter().map(|account| &account.user);
    let mut taken: BTreeSet<&String> = queues.chain(accounts).collect();
    for menu in &config.menus {
        if !taken.insert(&menu.name) {
            return Err(ConfigError::Twice {
                key: "accounts, queues and menus",
                name: menu.name.clone(),
            });
        }
    }
    config
        .menus
        .iter()
        .try_for_each(|menu| check_one(menu, config, &taken))
}

fn check_one(menu: &Menu, config: &Config, known: &BTreeSet<&String>) -> Result<(), ConfigError> {
    let key = |name: &str| format!("menus.{}.{name}", menu.name);
    if menu.name.is_empty() || config.conferences.room(&menu.name).is_some() {
        let problem = "is no name of a menu: it is empty, or a room's";
        return Err(invalid("menus.name", &menu.name, problem, "give it another name"));
    }
    if menu.keys.is_empty() && menu.otherwise.is_empty() {
        let problem = "leads nowhere";
        return Err(invalid(
            &key("keys"),
            "",
            problem,
            "add keys, such as \"1\" = \"support\", or otherwise",
        ));
    }
    if menu.timeout_s == 0 || menu.next_key_s == 0 || menu.tries_max == 0 {
        let value = format!("{} {} {}", menu.timeout_s, menu.next_key_s, menu.tries_max);
        let problem = "timeout_s, next_key_s and tries_max must be at least 1";
        return Err(invalid(
            &format!("menus.{}", menu.name),
            &value,
            problem,
            "raise them",
        ));
    }
    for (keys, target) in &menu.keys {
        let is_key = |key: u8| key.is_ascii_digit() || key == b'*' || key == b'#';
        if !(1..=limits::MENU_KEYS_MAX).contains(&keys.len()) || !keys.bytes().all(is_key) {
            let problem = "are no keys of a telephone";
            return Err(invalid(
                &key("keys"),
                keys,
                problem,
                "use 1 to 16 of 0 to 9, * and #",
            ));
        }
        if !leads_somewhere(target, config, known) {
            return Err(nowhere(&format!("{}.{keys}", key("keys")), target));
        }
    }
    let otherwise = &menu.otherwise;
    if !otherwise.is_empty() && !leads_somewhere(otherwise, config, known) {
        return Err(nowhere(&key("otherwise"), otherwise));
    }
    Ok(())
}

fn nowhere(key: &str, target: &str) -> ConfigError {
    let problem = "is no account, queue, menu, room, or number that a route takes";
    invalid(key, target, problem, "correct it, or add what it names")
}

fn leads_somewhere(target: &str, config: &Config, known: &BTreeSet<&String>) -> bool {
    let number = numbers::rewrite(&config.dialplan.rewrite, &numbers::plain(target));
    let mut routes = config.dialplan.routes.iter();
    known.contains(&number)
        || config.conferences.room(&number).is_some()
        || routes.any(|route| route.pattern.matches(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn menu(keys: &[&str]) -> Menu {
        let keys: Vec<String> = keys
            .iter()
            .map(|keys| format!("{keys:?} = \"to-{keys}\""))
            .collect();
        toml::from_str(&format!("name = \"welcome\"\nkeys = {{ {} }}", keys.join(", "))).unwrap()
    }

    #[test]
    fn keys_lead_there_as_soon_as_no_others_can_be_meant() {
        let menu = menu(&["1", "2", "21", "*5"]);
        for (typed, by_then, at_the_end) in [
            ("1", Keys::Whole("to-1"), Keys::Whole("to-1")),
            ("2", Keys::Begun, Keys::Whole("to-2")),
            ("21", Keys::Whole("to-21"), Keys::Whole("to-21")),
            ("22", Keys::Wrong, Keys::Wrong),
            ("*", Keys::Begun, Keys::Wrong),
            ("3", Keys::Wrong, Keys::Wrong),
        ] {
            assert_eq!(menu.read(typed, false), by_then, "{typed}");
            assert_eq!(menu.read(typed, true), at_the_end, "{typed}, and no more");
        }
    }

    #[test]
    fn the_hash_key_ends_them_where_it_is_no_key_itself() {
        assert!(menu(&["1"]).ends('#'));
        assert!(!menu(&["1"]).ends('1'));
        assert!(!menu(&["1", "2#"]).ends('#'));
    }
}
