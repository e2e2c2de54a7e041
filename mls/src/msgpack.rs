//! A MessagePack map taken apart into its fields and put together again, so that only the fields that changed are stored.

const FIXMAP: u8 = 0x80;
const FIXSTR: u8 = 0xa0;

/// The fields of a map with short names, or None where the bytes are no such thing.
pub fn fields(map: &[u8]) -> Option<Vec<(&str, &[u8])>> {
    let (&marker, _) = map.split_first()?;
    if marker & 0xf0 != FIXMAP {
        return None;
    }
    let mut at = 1;
    let mut fields = Vec::new();
    for _ in 0..marker & 0x0f {
        let value = end_of(map, at)?;
        let next = end_of(map, value)?;
        let (&kind, name) = map[at..value].split_first()?;
        if kind & 0xe0 != FIXSTR {
            return None;
        }
        fields.push((std::str::from_utf8(name).ok()?, &map[value..next]));
        at = next;
    }
    (at == map.len()).then_some(fields)
}

/// The map that has these fields.
pub fn map<'a>(fields: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Option<Vec<u8>> {
    let mut map = vec![
        FIXMAP
            | u8::try_from(fields.len())
                .ok()
                .filter(|count| *count < 16)?,
    ];
    for (name, value) in fields {
        map.push(
            FIXSTR
                | u8::try_from(name.len())
                    .ok()
                    .filter(|length| *length < 32)?,
        );
        map.extend(name.as_bytes());
        map.extend(value);
    }
    Some(map)
}

/// Where the value that begins at `at` ends.
fn end_of(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut pending = 1_usize;
    while pending > 0 {
        pending -= 1;
        let marker = *bytes.get(at)?;
        at += 1;
        let mut length = |width: usize| -> Option<usize> {
            let digits = bytes.get(at..at + width)?;
            at += width;
            Some(
                digits
                    .iter()
                    .fold(0, |length, digit| length << 8 | usize::from(*digit)),
            )
        };
        // The bytes that follow, and the values that follow.
        let (body, values) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, usize::from(marker & 0x0f) * 2),
            0x90..=0x9f => (0, usize::from(marker & 0x0f)),
            0xa0..=0xbf => (usize::from(marker & 0x1f), 0),
            0xc4 | 0xd9 => (length(1)?, 0),
            0xc5 | 0xda => (length(2)?, 0),
            0xc6 | 0xdb => (length(4)?, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xdc => (0, length(2)?),
            0xdd => (0, length(4)?),
            0xde => (0, length(2)?.checked_mul(2)?),
            0xdf => (0, length(4)?.checked_mul(2)?),
            _ => return None,
        };
        at = at.checked_add(body).filter(|end| *end <= bytes.len())?;
        pending = pending.checked_add(values)?;
    }
    Some(at)
}
