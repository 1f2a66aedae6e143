//! One slot as bytes: a header of fixed size, then the content, then whatever was there before.

use sha2::{Digest, Sha256};

use super::LedgerError;

/// The size of a slot in bytes.
pub const CAPACITY: usize = 1 << 20;

const MAGIC: [u8; 8] = *b"VSDLEDGR";
/// Magic 8, schema 4, zeroes 4, number 8, length 8, checksum 32.
const HEADER: usize = 64;
/// What the checksum covers of the header: everything before it.
const CHECKED: usize = 32;

/// What a slot holds.
#[derive(Debug)]
pub(super) enum Found {
    Missing,
    /// Torn, cut or damaged.
    Invalid,
    Valid(Record),
}

/// A record whose checksum is right.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) schema: u32,
    pub(super) number: u64,
    pub(super) content: Vec<u8>,
}

pub(super) fn encode(number: u64, schema: u32, content: &[u8]) -> Result<Vec<u8>, LedgerError> {
    if content.len() > CAPACITY - HEADER {
        return Err(LedgerError::TooLarge { bytes: content.len() });
    }
    let mut bytes = Vec::with_capacity(HEADER + content.len());
    bytes.extend(MAGIC);
    bytes.extend(schema.to_le_bytes());
    bytes.extend([0u8; 4]);
    bytes.extend(number.to_le_bytes());
    bytes.extend((content.len() as u64).to_le_bytes());
    let checksum = checksum(&bytes, content);
    bytes.extend(checksum);
    bytes.extend(content);
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Found {
    record(bytes).map_or(Found::Invalid, Found::Valid)
}

fn record(bytes: &[u8]) -> Option<Record> {
    let header = bytes.get(..HEADER)?;
    let (checked, expected) = header.split_at(CHECKED);
    let length = usize::try_from(u64::from_le_bytes(checked[24..32].try_into().ok()?)).ok()?;
    let content = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    if !checked.starts_with(&MAGIC) || checksum(checked, content) != expected {
        return None;
    }
    Some(Record {
        schema: u32::from_le_bytes(checked[8..12].try_into().ok()?),
        number: u64::from_le_bytes(checked[16..24].try_into().ok()?),
        content: content.to_vec(),
    })
}

fn checksum(header: &[u8], content: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(header).chain_update(content).finalize().into()
}
