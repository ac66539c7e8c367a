package beamfraud;

import java.util.Collection;
import org.apache.flink.contrib.streaming.state.RocksDBOptionsFactory;
import org.rocksdb.ColumnFamilyOptions;
import org.rocksdb.DBOptions;

/**
 * Bounds RocksDB's manifest, for `state.backend.rocksdb.options-factory`.
 *
 * <p>A manifest is a log of the files of a database, and a part of every checkpoint. RocksDB begins
 * the next one at a gigabyte: until then each checkpoint is larger than the last by what was
 * written for it, some kilobytes, also of a stream to which nothing comes.
 */
public final class BoundedManifest implements RocksDBOptionsFactory {

  private static final long serialVersionUID = 1L;
  private static final long MANIFEST_BYTES = 64 << 10;

  @Override
  public DBOptions createDBOptions(DBOptions options, Collection<AutoCloseable> handlesToClose) {
    return options.setMaxManifestFileSize(MANIFEST_BYTES);
  }

  @Override
  public ColumnFamilyOptions createColumnOptions(
      ColumnFamilyOptions options, Collection<AutoCloseable> handlesToClose) {
    return options;
  }
}
