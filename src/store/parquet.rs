//! Whether a Parquet file is laid out as [`super::to_parquet`] lays it out.
//!
//! The engine that reads it takes the sizes in it at their word: it asks for as much memory, and a process that asks for more
//! than there is ends. So they are looked at first, with a parser that has a bound.

use polars_parquet_format::thrift::protocol::{ReadThrift, TCompactInputProtocol};
use polars_parquet_format::{ColumnChunk, FileMetaData, PageHeader};

/// At the beginning of the file, and at its end.
const MARK: &[u8] = b"PAR1";
/// Longest footer: what lies together of a column takes some hundred bytes of it.
const LONGEST_FOOTER: usize = 4 << 20;
/// Most rows that lie together: they are written in groups of 262144, or of nearly twice as many.
const MOST_ROWS: i64 = 1 << 20;
/// Most values in all: two gibibytes of numbers, several times what the largest tables hold.
const MOST_VALUES: i64 = 1 << 28;
/// Largest page before it was compressed: they are written with a mebibyte, or with one value or dictionary that is larger.
const LARGEST_PAGE: i32 = 64 << 20;

/// Checks that the table is flat, and that its rows, columns and pages lie within the file and promise no more than can be in it.
///
/// # Errors
/// What is wrong, in words.
pub fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let within = bytes.strip_prefix(MARK).and_then(|bytes| bytes.strip_suffix(MARK)).ok_or("it is no Parquet file")?;
    let (within, length) = within.split_last_chunk().ok_or("it is no Parquet file")?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > within.len().min(LONGEST_FOOTER) {
        return Err("its footer is longer than it can be");
    }
    let mut footer = &within[within.len() - length..];
    // Offsets count from the beginning of the file.
    let pages = &bytes[..MARK.len() + within.len() - length];
    let footer: FileMetaData = parsed(&mut footer).ok_or("its footer cannot be read")?;
    let Some((root, columns)) = footer.schema.split_first() else { return Err("it has no columns") };
    let flat = columns.iter().all(|column| column.num_children.unwrap_or(0) == 0);
    if !flat || usize::try_from(root.num_children.unwrap_or(0)) != Ok(columns.len()) {
        return Err("its columns are no plain list");
    }
    let (mut rows, mut bytes) = (0, 0i64);
    for group in &footer.row_groups {
        if !(0..=MOST_ROWS).contains(&group.num_rows) {
            return Err("more of its rows would lie together than are written so");
        }
        rows += group.num_rows;
        if rows.saturating_mul(columns.len() as i64) > MOST_VALUES {
            return Err("it would have more values than a table has");
        }
        let sizes = group.columns.iter().filter_map(|column| Some(column.meta_data.as_ref()?.total_compressed_size));
        bytes = sizes.fold(bytes, i64::saturating_add);
        if group.columns.len() != columns.len() || !group.columns.iter().all(|column| is_sound(column, group.num_rows, pages)) {
            return Err("its columns are not what it says");
        }
    }
    if bytes > pages.len() as i64 {
        return Err("its columns lie one in the other");
    }
    if rows == footer.num_rows { Ok(()) } else { Err("its rows are not as many as it says") }
}

/// Whether a column of so many rows lies in `file` where it says, and each of its pages promises no more than it can have.
fn is_sound(column: &ColumnChunk, rows: i64, file: &[u8]) -> bool {
    let Some(column) = &column.meta_data else { return false };
    let start = column.dictionary_page_offset.unwrap_or(column.data_page_offset);
    let end = start.checked_add(column.total_compressed_size).and_then(|end| usize::try_from(end).ok());
    let range = usize::try_from(start).ok().zip(end);
    let Some(mut rest) = range.and_then(|(start, end)| file.get(start..end)) else { return false };
    while !rest.is_empty() {
        let Some(page) = parsed::<PageHeader>(&mut rest) else { return false };
        let values = [
            page.data_page_header.map(|header| header.num_values),
            page.data_page_header_v2.map(|header| header.num_values),
            page.dictionary_page_header.map(|header| header.num_values),
        ];
        let few = values.into_iter().flatten().all(|values| (0..=rows).contains(&i64::from(values)));
        let size = usize::try_from(page.compressed_page_size).ok().filter(|&size| size <= rest.len());
        match size {
            Some(size) if few && (0..=LARGEST_PAGE).contains(&page.uncompressed_page_size) => rest = &rest[size..],
            _ => return false,
        }
    }
    column.num_values == rows
}

/// Reads a structure from the beginning of `bytes`, which then go on behind it. What it promises to hold must be in them, nearly:
/// the elements of a list take no more memory than some hundred times their bytes.
fn parsed<T: ReadThrift>(bytes: &mut &[u8]) -> Option<T> {
    let most = bytes.len().saturating_mul(2).saturating_add(1024);
    T::read_from_in_protocol(&mut TCompactInputProtocol::new(bytes, most)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars_parquet_format::thrift::protocol::TCompactOutputProtocol;
    use polars_parquet_format::{
        ColumnMetaData, CompressionCodec, DataPageHeader, Encoding, PageType, RowGroup, SchemaElement, Type,
    };

    /// The two headers of a file with one column of three rows, in one page of five bytes.
    fn headers() -> (PageHeader, FileMetaData) {
        let values = DataPageHeader::new(3, Encoding::PLAIN, Encoding::RLE, Encoding::RLE, None);
        let page = PageHeader::new(PageType::DATA_PAGE, 24, 5, None, values, None, None, None);
        let element = |name: &str, children: Option<i32>| {
            SchemaElement::new(Type::INT64, None, None, name.to_string(), children, None, None, None, None, None)
        };
        let column = ColumnMetaData::new(
            Type::INT64,
            vec![Encoding::PLAIN],
            vec!["a".to_string()],
            CompressionCodec::ZSTD,
            3,
            24,
            0,
            None,
            MARK.len() as i64,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
        );
        let column = ColumnChunk::new(None, 0, column, None, None, None, None, None, None);
        let group = RowGroup::new(vec![column], 24, 3, None, None, None, None);
        let schema = vec![element("root", Some(1)), element("a", None)];
        (page, FileMetaData::new(1, schema, 3, vec![group], None, None, None, None, None))
    }

    fn around(pages: &[u8], footer: &[u8]) -> Vec<u8> {
        [MARK, pages, footer, &(footer.len() as u32).to_le_bytes(), MARK].concat()
    }

    /// The file with these headers, changed.
    fn file(change: impl FnOnce(&mut PageHeader, &mut FileMetaData)) -> Vec<u8> {
        let (mut page, mut footer) = headers();
        change(&mut page, &mut footer);
        let (mut pages, mut written) = (Vec::new(), Vec::new());
        page.write_to_out_protocol(&mut TCompactOutputProtocol::new(&mut pages)).unwrap();
        pages.extend([0; 5]);
        for column in footer.row_groups.iter_mut().flat_map(|group| &mut group.columns) {
            column.meta_data.iter_mut().for_each(|column| column.total_compressed_size += pages.len() as i64);
        }
        footer.write_to_out_protocol(&mut TCompactOutputProtocol::new(&mut written)).unwrap();
        around(&pages, &written)
    }

    fn column(footer: &mut FileMetaData) -> &mut ColumnMetaData {
        footer.row_groups[0].columns[0].meta_data.as_mut().unwrap()
    }

    #[test]
    fn what_a_file_cannot_hold_it_cannot_promise() {
        assert_eq!(check(&file(|_, _| {})), Ok(()));
        assert_eq!(check(&file(|_, footer| (footer.row_groups, footer.num_rows) = (Vec::new(), 0))), Ok(()));
        let columns = Err("its columns are not what it says");
        for (bytes, expected) in [
            (file(|page, _| page.uncompressed_page_size = i32::MAX), columns),
            (file(|page, _| page.uncompressed_page_size = -1), columns),
            (file(|page, _| page.compressed_page_size = 6), columns),
            (file(|page, _| page.compressed_page_size = -1), columns),
            (file(|page, _| page.data_page_header.as_mut().unwrap().num_values = 4), columns),
            (file(|page, _| page.data_page_header.as_mut().unwrap().num_values = -1), columns),
            (file(|_, footer| column(footer).num_values = 4), columns),
            (file(|_, footer| column(footer).total_compressed_size = 1000), columns),
            (file(|_, footer| column(footer).total_compressed_size = -1000), columns),
            (file(|_, footer| column(footer).data_page_offset = -1), columns),
            (file(|_, footer| column(footer).data_page_offset = i64::MAX), columns),
            (file(|_, footer| column(footer).dictionary_page_offset = Some(5)), columns),
            (file(|_, footer| footer.row_groups[0].columns[0].meta_data = None::<ColumnMetaData>), columns),
            (file(|_, footer| footer.row_groups[0].columns.clear()), columns),
            (file(|_, footer| footer.num_rows = 4), Err("its rows are not as many as it says")),
            (
                file(|_, footer| footer.row_groups[0].num_rows = 1 << 40),
                Err("more of its rows would lie together than are written so"),
            ),
            (
                file(|_, footer| footer.row_groups[0].num_rows = -1),
                Err("more of its rows would lie together than are written so"),
            ),
            (file(|_, footer| footer.schema[1].num_children = Some(1)), Err("its columns are no plain list")),
            (file(|_, footer| footer.schema[0].num_children = Some(2)), Err("its columns are no plain list")),
            (file(|_, footer| footer.schema.clear()), Err("it has no columns")),
            // A list of 2³² − 1 elements, of which none is there.
            (around(&[], &[0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err("its footer cannot be read")),
            (around(&[], &[0x19; 1000]), Err("its footer cannot be read")),
            ([MARK, &[0xff; 4], MARK].concat(), Err("its footer is longer than it can be")),
            ([MARK, &[0; 3], MARK].concat(), Err("it is no Parquet file")),
            (b"PAR1".to_vec(), Err("it is no Parquet file")),
            (Vec::new(), Err("it is no Parquet file")),
        ] {
            assert_eq!(check(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn many_groups_of_the_same_rows_are_too_many() {
        let many = file(|page, footer| {
            page.data_page_header.as_mut().unwrap().num_values = MOST_ROWS as i32;
            column(footer).num_values = MOST_ROWS;
            footer.row_groups[0].num_rows = MOST_ROWS;
            footer.row_groups = vec![footer.row_groups[0].clone(); 3000];
            footer.num_rows = 3000 * MOST_ROWS;
        });
        assert_eq!(check(&many), Err("it would have more values than a table has"));
        let two = file(|_, footer| {
            footer.row_groups = vec![footer.row_groups[0].clone(); 2];
            footer.num_rows *= 2;
        });
        assert_eq!(check(&two), Err("its columns lie one in the other"));
    }
}
