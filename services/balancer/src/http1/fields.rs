//! The fields of one section, as ranges into its bytes.

use bytes::Bytes;

use super::known::Known;
use super::span::Span;

/// One field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: Span,
    pub(crate) value: Span,
    pub(crate) known: Known,
}

/// All fields of a section, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) bytes: Bytes,
    list: Vec<Field>,
    /// The bits of those that are there: most questions are about fields that are not.
    present: u64,
}

impl Fields {
    /// None, in the room that `list` has.
    pub(crate) fn reusing(mut list: Vec<Field>) -> Fields {
        list.clear();
        Fields {
            list,
            ..Fields::default()
        }
    }

    /// The room.
    pub(crate) fn into_list(self) -> Vec<Field> {
        self.list
    }

    #[inline]
    pub(crate) fn push(&mut self, field: Field) {
        self.present |= field.known.bit();
        self.list.push(field);
    }

    /// Takes out the field at `index`, which is `Cookie`, to be pushed again at the end.
    pub(crate) fn remove(&mut self, index: usize) -> Field {
        self.list.remove(index)
    }

    #[inline]
    pub(crate) fn list(&self) -> &[Field] {
        &self.list
    }

    #[inline]
    pub(crate) fn has(&self, known: Known) -> bool {
        self.present & known.bit() != 0
    }

    #[inline]
    pub(crate) fn first(&self, known: Known) -> Option<&Field> {
        if !self.has(known) {
            return None;
        }
        self.list.iter().find(|field| field.known == known)
    }

    #[inline]
    pub(crate) fn get(&self, known: Known) -> Option<&[u8]> {
        self.first(known).map(|field| field.value.of(&self.bytes))
    }

    /// All values of one name, in `bytes`, which need not be those that it keeps: they are not split off before all is well.
    pub(crate) fn values<'a>(
        &'a self,
        known: Known,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        let of_name = self.list.iter().filter(move |field| field.known == known);
        of_name.map(|field| field.value.of(bytes))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.list.iter().map(|field| {
            (
                field.known,
                field.name.of(&self.bytes),
                field.value.of(&self.bytes),
            )
        })
    }
}
