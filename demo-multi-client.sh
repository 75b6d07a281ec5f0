#!/bin/sh
# Alice, Bob, Charlie and the bot, talking through a server, in containers.
set -eu
cd "$(dirname "$0")"

echo "1. Build all images"
docker compose build

echo "2. Start the server"
docker compose up -d websocket-server

echo "3. Launch three clients"
docker compose up -d client-alice client-bob client-charlie

echo "4. Start the message bot"
docker compose up -d message-bot

echo "5. Show real-time logs"
echo "   Ctrl+C ends them, and nothing else.  In another terminal:"
echo "   docker attach ws-client-alice     to type @bob Hello Bob! (Ctrl+P Ctrl+Q: away)"
echo "   docker compose down               to stop everything"
exec docker compose logs -f
