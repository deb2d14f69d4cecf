//! States of which the journal is told once as a whole, and then only the parts that are others.

use std::hash::Hash;

use serde::{Deserialize, Deserializer, Serialize};

use crate::calls;

/// Something that a state consists of.
pub(crate) trait Part: Sized {
    /// What is told when it is another.
    type Change: Serialize + for<'de> Deserialize<'de>;
    /// What of it is remembered, to know that.
    type Digest: Default;

    /// Of what it is now.
    fn digest(&self) -> Self::Digest;

    /// What changed since `told`, which is brought up to date; `None`: nothing did.
    fn change(self, told: &mut Self::Digest) -> Option<Self::Change>;

    /// Makes the change.
    fn apply(&mut self, change: Self::Change);

    /// From a change that tells all of it; `None` when it does not.
    fn whole(change: Option<Self::Change>) -> Option<Self>;
}

/// Parts that are told as they are, and in any case when something new is told of.
macro_rules! told_as_a_whole {
    ($($part:ty),* $(,)?) => { $( impl_part!($part, digest, |told: Option<$part>| told); )* };
}

/// Parts that are told as they are, but not when they are what they begin as: none, nothing, no.
macro_rules! told_unless_absent {
    ($($part:ty),* $(,)?) => { $( impl_part!($part, digest_unless_absent, |told: Option<$part>| Some(told.unwrap_or_default())); )* };
}

macro_rules! impl_part {
    ($part:ty, $digest:ident, $whole:expr) => {
        impl Part for $part {
            type Change = Self;
            type Digest = u64;

            fn digest(&self) -> u64 {
                crate::saved::parts::$digest(self)
            }

            fn change(self, told: &mut u64) -> Option<Self> {
                let now = self.digest();
                (std::mem::replace(told, now) != now).then_some(self)
            }

            fn apply(&mut self, change: Self) {
                *self = change;
            }

            fn whole(change: Option<Self>) -> Option<Self> {
                $whole(change)
            }
        }
    };
}

/// The digest of what was never told.
const UNTOLD: u64 = 0;

pub(super) fn digest(part: &impl Hash) -> u64 {
    calls::digest(part).max(UNTOLD + 1)
}

pub(super) fn digest_unless_absent<T: Hash + Default + PartialEq>(part: &T) -> u64 {
    if *part == T::default() {
        UNTOLD
    } else {
        digest(part)
    }
}

/// Tells a part that is absent now from one that is as it was.
pub(super) fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A struct that is told of by its fields.
macro_rules! in_parts {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $state:ident, $change:ident, $digests:ident {
            $( $(#[$of_field:meta])* $field:ident: $part:ty, )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        $visibility struct $state {
            $( $(#[$of_field])* pub(crate) $field: $part, )*
        }

        #[doc = concat!("The parts of a [`", stringify!($state), "`] that are others than they were.")]
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        $visibility struct $change {
            $(
                #[serde(
                    default,
                    deserialize_with = "crate::saved::parts::told",
                    skip_serializing_if = "Option::is_none"
                )]
                $field: Option<<$part as Part>::Change>,
            )*
        }

        #[doc = concat!("What was told of a [`", stringify!($state), "`].")]
        #[derive(Debug, Default)]
        pub(crate) struct $digests {
            $( $field: <$part as Part>::Digest, )*
        }

        impl Part for $state {
            type Change = $change;
            type Digest = $digests;

            fn digest(&self) -> $digests {
                $digests { $( $field: self.$field.digest(), )* }
            }

            fn change(self, told: &mut $digests) -> Option<$change> {
                let change = $change { $( $field: self.$field.change(&mut told.$field), )* };
                let is_one = false $( || change.$field.is_some() )*;
                is_one.then_some(change)
            }

            fn apply(&mut self, change: $change) {
                $( if let Some(change) = change.$field { self.$field.apply(change); } )*
            }

            fn whole(change: Option<$change>) -> Option<Self> {
                let change = change?;
                Some(Self { $( $field: Part::whole(change.$field)?, )* })
            }
        }
    };
}

pub(super) use {impl_part, in_parts, told_as_a_whole, told_unless_absent};
