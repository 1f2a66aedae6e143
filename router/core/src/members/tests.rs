use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use supervisor_protocol::Tick;
