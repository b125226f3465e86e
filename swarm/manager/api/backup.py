"""A backup of the store, from any manager and while it runs."""

import asyncio
import logging
from collections.abc import AsyncIterator

from swarm.api.v1 import control_pb2 as pb
from swarm.manager.api.authorization import who_of
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.backup import BackupError, check_passphrase, write_backup
from swarm.manager.core.validate import InvalidRequest
from swarm.manager.manager import Unavailable

log = logging.getLogger(__name__)


class BackupMethods(ControlRequests):
    async def Backup(
        self, request: pb.BackupRequest, context: Context
    ) -> AsyncIterator[pb.BackupResponse]:
        """All that was committed before the call, at one index; encrypted on a thread, piece by
        piece, so that neither the loop nor memory is held up."""
        try:
            check_passphrase(request.passphrase)
        except BackupError as error:
            raise InvalidRequest(str(error)) from None
        await self.read(context)
        if self.manager.store.cluster() is None:
            raise Unavailable("this manager has not caught up with the cluster yet; try again")
        who, _ = who_of(context)
        image = self.manager.core.consensus.image()
        log.info("a backup at index %d for %s", image.header.index, who)
        data = write_backup(image.serialised(), request.passphrase)
        begins = True
        while (piece := await asyncio.to_thread(next, data, None)) is not None:
            yield pb.BackupResponse(begins=begins, data=piece)
            begins = False
