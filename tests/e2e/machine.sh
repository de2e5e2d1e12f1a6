# A machine of its own for systemd: everything that is written stays in memory and is gone with it. Its first process is
# systemd, which knows the units in $UNITS and no others: none of those that a whole system brings up (they clean /tmp).
# Run as root by `unshare --mount --pid --fork --ipc --uts --net --cgroup`. Arguments: the checkout, the data folder, the
# folder with the units, Python's own folder, its packages.
set -eu
CHECKOUT=$1 DATA=$2 GIVEN=$3 PYTHON=$4 PACKAGES=$5 UNITS=/run/units

mount --make-rprivate /
mount -t tmpfs tmpfs /srv
mkdir /srv/written /srv/work /srv/tree
mount -t overlay overlay -o lowerdir=/,upperdir=/srv/written,workdir=/srv/work /srv/tree
ROOT=/srv/tree
for folder in run tmp dev; do mount -t tmpfs tmpfs "$ROOT/$folder"; done
for device in null zero full random urandom tty; do cp -a "/dev/$device" "$ROOT/dev/"; done
mkdir "$ROOT/dev/shm" "$ROOT/dev/pts"
mount -t tmpfs tmpfs "$ROOT/dev/shm"
mount -t devpts devpts "$ROOT/dev/pts" -o newinstance,ptmxmode=0666
ln -s pts/ptmx "$ROOT/dev/ptmx"
ln -s /proc/self/fd "$ROOT/dev/fd"
mount -t proc proc "$ROOT/proc"
mount --bind "$ROOT/proc/sys" "$ROOT/proc/sys"
mount -o remount,ro,bind "$ROOT/proc/sys"
mount -t sysfs -o ro sysfs "$ROOT/sys"
mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup"

# What is taken from outside can only be read, and is where the unit may see it (not below /root or /tmp).
show() {
    mkdir -p "$ROOT/opt/$2"
    mount --bind "$1" "$ROOT/opt/$2"
    mount -o remount,ro,bind "$ROOT/opt/$2"
}
show "$CHECKOUT" checkout
show "$PYTHON" python
show "$PACKAGES" packages
mkdir -p "$ROOT$UNITS" "$ROOT/var/lib/janflask"
cp "$GIVEN"/* "$ROOT$UNITS/"
cp -r "$DATA"/. "$ROOT/var/lib/janflask/"

cd "$ROOT"
pivot_root . mnt
cd /
umount -l /mnt
[ "$(stat -f -c %T /)" = overlayfs ]

echo 'janflask:x:987:987::/var/lib/janflask:/usr/sbin/nologin' >>/etc/passwd
echo 'janflask:x:987:' >>/etc/group
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir -p /opt/janflask/.venv/bin
for name in conf ext janflask wsgi.py; do ln -s "/opt/checkout/$name" "/opt/janflask/$name"; done
cat >/opt/janflask/.venv/bin/gunicorn <<SCRIPT
#!/opt/python/bin/python3
import sys
from gunicorn.app.wsgiapp import run
sys.exit(run())
SCRIPT
chmod 755 /opt/janflask/.venv/bin/gunicorn
cp "$UNITS/janflask.env" /etc/janflask.env
chown -R 987:987 /var/lib/janflask

exec env -i container=other SYSTEMD_UNIT_PATH=$UNITS PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
